import { useEffect, useState } from 'react';
import { connect } from '/live/_client.js';

const live = connect('/live'); // one for all components

// useLive is what is told last, undefined before that.
function useLive(subscribe, ...of) {
	const [told, tell] = useState();
	useEffect(() => {
		tell(undefined);
		return subscribe(tell);
	}, of);
	return told;
}

export const useValue = channel => useLive(tell => live.value(channel, tell), channel);

export const useMembers = channel => useLive(tell => live.presence(channel, tell), channel) ?? [];

export const useEvents = (channel, keep = 50) =>
	useLive(tell => live.on(channel, e => tell((list = []) => [...list, e].slice(-keep))), channel, keep) ?? [];
