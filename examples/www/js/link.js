// The connection as it is shown: its state, what it received, cuts and gaps.

import { $, attr, h, plural, text, words } from "./dom.js";
import { Pulse } from "./pulse.js";

const WORDS = {
	connecting: ["Connecting", ""],
	live: ["Live", ""],
	reconnecting: ["Reconnecting", "The connection was lost; the browser opens it again."],
	gone: ["Server gone", "The page tries again, and goes on from the last event."],
	offline: ["Refused", "The server answered with an error; the page tries again shortly."],
	cut: ["Cut", ""],
};

const REASONS = {
	trimmed: "Some of what was missed is older than the history the hub keeps.",
	restarted: "The server was started anew, and a history in memory does not outlive it.",
	diverged: "This server's log is not the one the last event came from.",
	unknown: "The hub does not know the last event id it was given.",
};

const LISTED = 3; // missed events that are told one by one

export class Link {
	#stream;
	#pulse;
	#saying = 0; // a timer: what was said has been read

	constructor(stream, feed) {
		this.#stream = stream;
		this.#pulse = new Pulse($("pulse"), stream);
		stream.addEventListener("state", (e) => this.#state(e.detail));
		stream.addEventListener("open", () => this.#facts());
		stream.addEventListener("gap", (e) => this.#gap(e.detail));
		stream.addEventListener("catchup", (e) => {
			this.#caught(e.detail);
			if (e.detail.done) feed.cut(e.detail.seconds, e.detail.events.length);
		});
		$("cut").addEventListener("submit", (e) => {
			e.preventDefault();
			if (stream.state === "cut") stream.open();
			else stream.cut(1000 * Number($("cut-seconds").value));
		});
		$("gap-close").addEventListener("click", () => {
			$("gap").hidden = true;
			$("caught").hidden = false;
		});
		setInterval(() => this.#tick(), 200);
	}

	take(event) {
		this.#pulse.take(event);
		this.#facts();
	}

	#state(state) {
		const [word, note] = WORDS[state];
		$("strip").dataset.state = state;
		text($("strip-word"), word);
		text($("cut-button"), state === "cut" ? "Reconnect now" : "Cut");
		attr($("cut-button"), "disabled", state !== "cut" && state !== "live");
		$("cut-bar").hidden = state !== "cut";
		if (note) this.say(note);
		else if (state === "live") this.#unsay();
		if (state !== "connecting") text($("live"), `Connection: ${word}`);
		this.#facts();
	}

	/** Says something in place of the figures, for a while or until it is taken back. */
	say(words, kind = "", ms = 0) {
		clearTimeout(this.#saying);
		text($("strip-result"), words);
		$("strip").dataset.says = kind || "note";
		if (ms) this.#saying = setTimeout(() => this.#unsay(), ms);
	}

	#unsay() {
		delete $("strip").dataset.says;
		text($("strip-result"), "");
	}

	#tick() {
		if (this.#stream.state !== "cut") return;
		const left = Math.max(this.#stream.until - Date.now(), 0);
		const whole = 1000 * Number($("cut-seconds").value);
		this.say(`Back in ${Math.ceil(left / 1000)} s. The matches go on meanwhile.`);
		$("cut-bar").firstElementChild.style.setProperty("--at", Math.min(left / whole, 1).toFixed(3));
	}

	#facts() {
		const stream = this.#stream;
		text($("fact-received"), stream.received.toLocaleString("en"));
		text($("fact-caught"), stream.caught.toLocaleString("en"));
		text($("fact-reconnects"), stream.reconnects);
		for (const name of ["duplicates", "lost"]) {
			text($(`fact-${name}`), stream.ledger[name].toLocaleString("en"));
			attr($(`fact-${name}`), "data-bad", stream.ledger[name] > 0);
		}
		text($("fact-last"), stream.lastId || "–");
		text($("fact-session"), stream.session || "–");
		attr($("fact-session"), "title", stream.session || null);
	}

	#caught({ seconds, from, events, gap, done }) {
		const big = events.filter((e) => !["clock", "ball", "corner", "shot", "snapshot"].includes(e.type));
		const count = h("b", null, plural(events.length, "event"));
		const tail = !done ? " so far, in order …"
			: gap ? ` caught up, and some are gone: see the gap.`
				: events.length ? ` missed and caught up: all that came after ${words(from, 60) || "the start"}, in order.`
					: " happened meanwhile.";
		$("caught-text").replaceChildren(`Away for ${seconds.toFixed(1)} s. `, count, tail);
		$("caught-list").replaceChildren(...big.slice(-LISTED).reverse().map((e) =>
			h("li", null, h("span", null, words(e.data?.text) || words(e.data?.message) || e.type.replace(/_/g, " ")))));
		if (gap) this.say("Some of what was missed is gone, and the server said so: see Connection.", "bad", 15000);
		else if (done) this.say(`Away for ${seconds.toFixed(1)} s: ${plural(events.length, "event")} missed, all caught up.`, "late", 15000);
	}

	#gap({ reason, oldest, newest }) {
		$("gap").hidden = false;
		$("caught").hidden = true;
		const kept = oldest ? ` Kept are ${words(oldest, 60)} to ${words(newest, 60)}; the stream went on from there.` : "";
		text($("gap-text"), (REASONS[reason] ?? `Reason: ${words(reason, 40)}.`) + kept);
	}
}
