import { ref, toValue, watchEffect } from 'vue';
import { connect } from '/live/_client.js';

const live = connect('/live'); // one for all components

// useLive is what is told last, undefined before that. A channel may be a ref.
function useLive(subscribe) {
	const told = ref();
	watchEffect(onCleanup => {
		told.value = undefined;
		onCleanup(subscribe(told));
	});
	return told;
}

export const useValue = channel => useLive(told => live.value(toValue(channel), v => { told.value = v; }));

export const useMembers = channel => useLive(told => live.presence(toValue(channel), all => { told.value = all; }));

export const useEvents = (channel, keep = 50) =>
	useLive(told => live.on(toValue(channel), e => { told.value = [...told.value ?? [], e].slice(-keep); }));
