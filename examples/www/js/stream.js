// The connection: one EventSource for every channel of the page.
//
// An EventSource reconnects by itself and sends the last event id it saw. The
// hub goes on from there, so that nothing is missing and nothing comes twice.
// This file adds only what the page shows of it, a cut on demand, and a retry
// after an answer that ends an EventSource for good.
//
// Emitted: "state", "open", "event", "gap", "catchup".

import { Ledger } from "./ledger.js";

const LIVE_AFTER = 1200; // ms without a replayed event: the replay is over
const FIRST_BURST = 3000; // ms after the first opening in which history comes

export class Stream extends EventTarget {
	#source = null;
	#types = new Set();
	#timer = 0;
	#fails = 0;
	#away = 0; // when the connection was lost, 0 when it is not
	#skew = Infinity; // how much later this clock shows an event than its id does
	#opened = 0; // when the connection was opened, by this clock
	#settled = 0; // a timer: the replay is over
	#catchup = null;
	#tries = 0; // that failed since the connection was lost

	state = "connecting";
	until = 0; // when a cut ends
	session = "";
	lastId = "";
	received = 0;
	caught = 0;
	reconnects = 0;
	ledger = new Ledger();

	/**
	 * @param {string} mount where the hub is, such as "/live"
	 * @param {string[]} channels and patterns
	 * @param {string[]} types of events; a type that is not listened to never arrives
	 * @param {number} last how many events of each channel to begin with
	 */
	constructor(mount, channels, types, last) {
		super();
		this.mount = mount;
		this.channels = channels;
		this.last = last;
		this.#types = new Set(types);
		addEventListener("online", () => this.state === "offline" && this.open());
		addEventListener("pagehide", () => this.#close());
		addEventListener("pageshow", (e) => e.persisted && this.open());
	}

	/** Opens the connection, where it was left if it was open before. */
	open() {
		this.#close();
		const query = new URLSearchParams(this.channels.map((name) => ["channel", name]));
		query.set("envelope", "1");
		if (this.lastId) query.set("last_event_id", this.lastId);
		else query.set("last", this.last);
		this.#set(this.#away ? "reconnecting" : "connecting");

		const source = new EventSource(`${this.mount}/?${query}`);
		this.#source = source;
		source.onopen = () => this.#onOpen();
		source.onerror = () => this.#onError();
		source.addEventListener("evstream.open", (e) => this.#onOpening(e));
		source.addEventListener("evstream.at", (e) => this.#moved(e));
		source.addEventListener("evstream.gap", (e) => this.#onGap(e));
		for (const type of this.#types) source.addEventListener(type, (e) => this.#onEvent(e));
	}

	/** Closes the connection for a while: what happens meanwhile is missed. */
	cut(ms) {
		this.#close();
		this.#lost();
		this.until = Date.now() + ms;
		this.#set("cut");
		this.#timer = setTimeout(() => this.open(), ms);
	}

	/** Listens to one more type of event. */
	listen(type) {
		if (!type || this.#types.has(type) || type.startsWith("evstream.")) return;
		this.#types.add(type);
		this.#source?.addEventListener(type, (e) => this.#onEvent(e));
	}

	get types() {
		return [...this.#types];
	}

	#close() {
		clearTimeout(this.#timer);
		this.#settle();
		this.#source?.close();
		this.#source = null;
	}

	#onOpen() {
		this.#fails = this.#tries = 0;
		this.#opened = Date.now();
		if (this.#away) {
			this.reconnects++;
			this.#catchup = { seconds: (this.#opened - this.#away) / 1000, from: this.#resumeAt, events: [], gap: null, done: false };
			this.#away = 0;
			this.#later();
		}
		this.#set("live");
	}

	#resumeAt = "";

	#onError() {
		this.#settle();
		this.#lost();
		if (this.#source.readyState === EventSource.CONNECTING) {
			// The first try fails where the server was stopped, and each after it.
			this.#set(this.#tries++ ? "gone" : "reconnecting");
			return;
		}
		// An answer that is no event stream ends an EventSource for good.
		this.#set("offline");
		clearTimeout(this.#timer);
		this.#timer = setTimeout(() => this.open(), Math.min(2000 * 2 ** this.#fails++, 15000));
	}

	#lost() {
		if (this.#away || !this.#opened) return;
		this.#away = Date.now();
		this.#resumeAt = this.lastId;
	}

	#onOpening(e) {
		this.#moved(e);
		const data = parse(e.data) ?? {};
		this.session = String(data.session ?? "");
		this.#emit("open", data);
	}

	#onGap(e) {
		this.#moved(e);
		const gap = parse(e.data) ?? {};
		this.ledger.restart();
		if (this.#catchup) this.#catchup.gap = gap;
		this.#emit("gap", gap);
	}

	#moved(e) {
		if (e.lastEventId) this.lastId = e.lastEventId;
	}

	#onEvent(e) {
		this.#moved(e);
		this.received++;
		const now = Date.now();
		const at = this.ledger.order(e.lastEventId);
		const time = at ?? now;
		// Ids have the time of the server's clock. How far this clock is ahead, at
		// most, is measured with the events that arrive live.
		if (at !== null && now - this.#opened > 3000) this.#skew = Math.min(this.#skew, now - at);
		const skew = Number.isFinite(this.#skew) ? this.#skew : 0;
		const past = time + skew < this.#opened;

		const envelope = parse(e.data) ?? {};
		const raw = typeof envelope.data === "string" ? envelope.data : JSON.stringify(envelope.data);
		const event = {
			id: e.lastEventId,
			time: time + skew,
			type: e.type,
			channel: String(envelope.ch ?? ""),
			raw,
			data: typeof envelope.data === "string" ? parse(envelope.data) : envelope.data,
			late: false,
			history: false,
		};
		if (!past) this.#settle(); // replay and live are in order
		if (this.#catchup && past) {
			event.late = true;
			this.caught++;
			this.#catchup.events.push(event);
			this.#later();
			this.#emit("catchup", this.#catchup);
		} else if (!this.reconnects) {
			event.history = now - this.#opened < FIRST_BURST && past;
		}
		this.ledger.take(event);
		this.#emit("event", event);
	}

	#later() {
		clearTimeout(this.#settled);
		this.#settled = setTimeout(() => this.#settle(), LIVE_AFTER);
	}

	#settle() {
		clearTimeout(this.#settled);
		if (!this.#catchup) return;
		const done = { ...this.#catchup, done: true };
		this.#catchup = null;
		this.#emit("catchup", done);
	}

	#set(state) {
		this.state = state;
		this.#emit("state", state);
	}

	#emit(name, detail) {
		this.dispatchEvent(new CustomEvent(name, { detail }));
	}
}

function parse(json) {
	try {
		return JSON.parse(json);
	} catch {
		return undefined;
	}
}
