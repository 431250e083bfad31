/** What has gone wrong: problem details (RFC 9457), as far as there are any. */
export interface Problem {
	status?: number;
	type?: string;
	title?: string;
	detail?: string;
	/** The channel that could not be joined or left. */
	channel?: string;
}

/** Events that are lost to this page. */
export interface Gap {
	/** Why: as in the event `evstream.gap`, or `tabs` where this tab was away while others went on. */
	reason: 'trimmed' | 'restarted' | 'diverged' | 'unknown' | 'tabs';
	oldest?: string;
	newest?: string;
}

/** One event that was published to a channel. */
export interface ChannelEvent {
	channel: string;
	/** Its name; `message` where it has none. */
	event: string;
	/** What was published, as text. */
	data: string;
	/** The newest id that the page has then. */
	id: string;
}

/** Somebody who is in a channel. */
export interface Member {
	user: string;
	since: string;
	meta?: Record<string, unknown>;
}

export type State = 'connecting' | 'open' | 'ended';

export interface LiveEvents {
	/** The state has changed: `detail` is the new one. */
	state: CustomEvent<State>;
	/** Events are lost. Told on the console, too, unless `preventDefault` is called. */
	gap: CustomEvent<Gap>;
	/** A request was refused or failed, and is tried again. Told on the console, too, unless `preventDefault` is called. */
	error: CustomEvent<Problem>;
	/** A channel is closed, and read to its end. */
	closed: CustomEvent<{ channel: string }>;
	/** The credential expires soon. */
	expiring: CustomEvent<{ expires: string }>;
	/** The stream has ended for good, and with it all subscriptions. */
	end: CustomEvent<{ reason?: string }>;
	/** Something was sent to this session alone, without a name. */
	message: CustomEvent<string>;
}

export interface Live extends EventTarget {
	readonly state: State;
	/**
	 * Calls back for each event of a channel or pattern. Returns what ends that. Like the two
	 * below it throws a TypeError for a name that a URL does not keep as it is, such as `a/../b`.
	 */
	on(channel: string, callback: (event: ChannelEvent) => void): () => void;
	/** The same for events of one name. */
	on(channel: string, event: string, callback: (event: ChannelEvent) => void): () => void;
	/** Calls back with the value of a channel, or of each that a pattern selects, and with each change; `undefined` where there is none. */
	value<T = unknown>(channel: string, callback: (value: T | undefined, channel: string) => void): () => void;
	/** Calls back with who is in a channel, and how many, at each change. */
	presence(channel: string, callback: (members: Member[], count: number) => void): () => void;
	/** Opens the stream anew, such as after a login; nothing is lost. */
	reopen(): void;
	/** Ends all of this tab. */
	close(): void;
	addEventListener<K extends keyof LiveEvents>(type: K, listener: (event: LiveEvents[K]) => void, options?: boolean | AddEventListenerOptions): void;
	addEventListener(type: string, listener: EventListenerOrEventListenerObject | null, options?: boolean | AddEventListenerOptions): void;
	removeEventListener<K extends keyof LiveEvents>(type: K, listener: (event: LiveEvents[K]) => void, options?: boolean | EventListenerOptions): void;
	removeEventListener(type: string, listener: EventListenerOrEventListenerObject | null, options?: boolean | EventListenerOptions): void;
}

export interface Options {
	/** Returns a token that is valid, for which the hub gives a ticket. Default: the browser's own credentials, such as cookies. */
	token?: () => string | Promise<string>;
	/** Tabs of one origin that say the same share a stream; `false` shares none. Default: all do. */
	share?: string | false;
	/** As of `fetch`; `include` sends cookies to a hub of another origin. Default: `same-origin`. */
	credentials?: RequestCredentials;
}

/** Reads channels of a hub: `base` is where it is mounted. Default: where this script came from. */
export function connect(base?: string | URL, options?: Options): Live;
