// The connection as it is shown: its state, what it received, cuts and gaps.

import { $, attr, h, plural, text, words } from "./dom.js";
import { Pulse } from "./pulse.js";

const WORDS = {
	connecting: ["Connecting", ""],
	live: ["Live", "every match, one connection"],
	reconnecting: ["Reconnecting", "the browser tries by itself"],
	offline: ["Offline", "trying again shortly"],
	cut: ["Cut", ""],
};

const REASONS = {
	trimmed: "Some of what was missed is older than the history the hub keeps.",
	restarted: "The server was started anew, and a history in memory does not outlive it.",
	diverged: "This server's log is not the one the last event came from.",
	unknown: "The hub does not know the last event id it was given.",
};

const LISTED = 4; // missed events that are told one by one

export class Link {
	#stream;
	#pulse;

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
		$("gap-close").addEventListener("click", () => ($("gap").hidden = true));
		setInterval(() => this.#tick(), 200);
	}

	take(event) {
		this.#pulse.take(event);
		this.#facts();
	}

	#state(state) {
		const [word, note] = WORDS[state];
		$("link-state").dataset.state = $("pill").dataset.state = state;
		text($("link-word"), word);
		text($("link-note"), note);
		text($("pill-text"), word);
		text($("cut-button"), state === "cut" ? "Reconnect now" : "Cut the connection");
		attr($("cut-button"), "disabled", state !== "cut" && state !== "live");
		$("cut-bar").hidden = state !== "cut";
		if (state === "cut") $("caught").hidden = true;
		if (state !== "connecting") text($("live"), `Connection: ${word}`);
		this.#facts();
	}

	#tick() {
		if (this.#stream.state !== "cut") return;
		const left = Math.max(this.#stream.until - Date.now(), 0);
		const whole = 1000 * Number($("cut-seconds").value);
		text($("link-note"), `back in ${Math.ceil(left / 1000)} s; the matches go on`);
		$("cut-bar").firstElementChild.style.setProperty("--at", Math.min(left / whole, 1).toFixed(3));
	}

	#facts() {
		const stream = this.#stream;
		text($("pill-count"), stream.received.toLocaleString("en"));
		text($("fact-received"), stream.received.toLocaleString("en"));
		text($("fact-caught"), stream.caught.toLocaleString("en"));
		text($("fact-reconnects"), stream.reconnects);
		text($("fact-order"), stream.disorder ? plural(stream.disorder, "event") : "none");
		attr($("fact-order"), "data-bad", stream.disorder > 0);
		text($("fact-last"), stream.lastId || "–");
		text($("fact-session"), stream.session || "–");
		attr($("fact-session"), "title", stream.session || null);
	}

	#caught({ seconds, from, events, gap, done }) {
		const big = events.filter((e) => !["clock", "ball", "corner", "shot", "snapshot"].includes(e.type));
		const count = h("b", null, plural(events.length, "event"));
		const tail = !done ? " so far, in order …"
			: gap ? ` caught up, and some are gone: see the gap below.`
				: events.length ? ` missed and caught up: all that came after ${words(from, 60) || "the start"}, in order, without a gap.`
					: " happened meanwhile.";
		$("caught").hidden = false;
		$("caught-text").replaceChildren(`Away for ${seconds.toFixed(1)} s. `, count, tail);
		$("caught-list").replaceChildren(...big.slice(-LISTED).reverse().map((e) =>
			h("li", null, h("span", null, words(e.data?.text) || words(e.data?.message) || e.type.replace(/_/g, " ")))));
	}

	#gap({ reason, oldest, newest }) {
		$("gap").hidden = false;
		const kept = oldest ? ` Kept are ${words(oldest, 60)} to ${words(newest, 60)}; the stream went on from there.` : "";
		text($("gap-text"), (REASONS[reason] ?? `Reason: ${words(reason, 40)}.`) + kept);
	}
}
