// The feed: every event with its id, newest first, missed ones marked.

import { $, h, object, plural, words } from "./dom.js";
import { say } from "./board.js";

const MINOR = new Set(["clock", "ball", "corner"]); // shown on demand
const MOST = 150; // rows, of minor and of other events each

export class Feed {
	#list = $("feed");
	#rows = { minor: [], major: [] };
	#mine = new Set(); // ids that the form published
	#away = false; // the reader has scrolled down

	constructor() {
		$("feed-all").addEventListener("change", (e) => {
			this.#list.dataset.show = e.target.checked ? "all" : "highlights";
		});
		this.#list.addEventListener("scroll", () => (this.#away = this.#list.scrollTop > 4), { passive: true });
	}

	take(event) {
		const data = object(event.data);
		const kind = MINOR.has(event.type) ? "minor" : "major";
		const badge = event.late ? ["late", "caught up"] : this.#mine.has(event.id) ? ["mine", "yours"] : event.history ? ["history", "history"] : null;
		const row = h("li", {
			"data-id": event.id,
			"data-sport": event.channel.split("/")[0],
			"data-minor": kind === "minor",
			"data-late": event.late,
			"data-mine": this.#mine.has(event.id),
		},
		h("span.what", null, h("b", null, label(event.type)), words(data.text) || words(data.message) || detail(event, data)),
		h("time", null, clock(event.time)),
		h("span.where", null, h("span", { title: event.channel }, event.channel), h("span.id", null, event.id),
			badge && h("span.badge", { "data-kind": badge[0] }, badge[1])));
		this.#put(row);
		this.#rows[kind].push(row);
		if (this.#rows[kind].length > MOST) this.#rows[kind].shift().remove();
	}

	/** Adds a line for a cut, above the events before it. */
	cut(seconds, missed) {
		this.#put(h("li.cut-mark", null, `Back after ${seconds.toFixed(1)} s · ${plural(missed, "event")} caught up, below`));
		const marks = this.#list.querySelectorAll(".cut-mark");
		if (marks.length > 10) marks[marks.length - 1].remove();
	}

	/** Marks an event as published here, before or after it arrives. */
	mine(id) {
		this.#mine.add(id);
		const row = [...this.#rows.major, ...this.#rows.minor].find((one) => one.dataset.id === id);
		if (!row || row.dataset.mine !== undefined) return;
		row.dataset.mine = "";
		if (!row.querySelector(".badge")) row.querySelector(".where").append(h("span.badge", { "data-kind": "mine" }, "yours"));
	}

	// A reader who has scrolled down is left where they are.
	#put(row) {
		const list = this.#list;
		const before = this.#away ? list.scrollHeight : 0;
		list.prepend(row);
		if (this.#away) list.scrollTop += list.scrollHeight - before;
	}
}

const label = (type) => words(type.replace(/_/g, " "), 40).replace(/^./, (c) => c.toUpperCase());

function detail(event, data) {
	if (event.type === "clock") return `${words(data.match, 60)} ${words(data.clock, 8)}′`;
	if (event.type === "snapshot") return words(data.match, 60);
	const known = say(event, data).split(" · ").slice(1).join(" · ");
	return known || words(event.raw, 120);
}

const two = (n) => String(n).padStart(2, "0");

function clock(ms) {
	const d = new Date(ms);
	return `${two(d.getHours())}:${two(d.getMinutes())}:${two(d.getSeconds())}`;
}
