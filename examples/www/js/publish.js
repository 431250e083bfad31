// The form that publishes, and the curl line that does the same.

import { $, attr, h, text, words } from "./dom.js";

const EXAMPLES = [
	{
		channel: "football/",
		type: "announcement",
		data: { message: "The second half starts five minutes late" },
		hint: "A name that ends in / reaches every channel beneath it.",
	},
	{
		channel: "football/arsenal-vs-chelsea",
		type: "score_update",
		data: (state) => ({
			match: state?.match ?? "Arsenal vs Chelsea",
			team: state?.home?.name ?? "Arsenal",
			homeScore: (Number(state?.homeScore) || 0) + 1,
			awayScore: Number(state?.awayScore) || 0,
			minute: Number(state?.minute) || 1,
			text: "Goal! It came in by curl",
		}),
		hint: "It stands until the match's next event redraws the card.",
	},
	{
		channel: "cricket/ind-vs-aus",
		type: "wicket",
		data: (state) => ({
			match: state?.match ?? "India vs Australia",
			player: state?.batters?.[0]?.name ?? "Rohit Sharma",
			totalWickets: Math.min((Number(state?.totalWickets) || 0) + 1, 10),
			text: "Bowled him! And nobody saw it coming",
		}),
		hint: "It stands until the match's next event redraws the card.",
	},
	{
		channel: "football/home-vs-away",
		type: "score_update",
		data: { match: "Home vs Away", homeScore: 1, awayScore: 0, minute: 1, text: "The first goal of a new match" },
		hint: "No channel is created beforehand: the page reads football/*.",
	},
];

export class Publisher {
	#stream;
	#board;
	#feed;
	#say;
	#fromStrip = false; // the answer is shown there, too
	#sent = new Map(); // id -> when, for events that have not come back yet
	#recent = new Map(); // id -> when and where, for events that came back before the answer

	/** @param {(words: string, kind: string) => void} say shows the answer to the strip's button */
	constructor(stream, board, feed, say) {
		this.#say = say;
		this.#stream = stream;
		this.#board = board;
		this.#feed = feed;
		for (const [i, button] of [...$("presets").children].entries()) {
			button.addEventListener("click", () => this.#fill(EXAMPLES[i], button));
		}
		$("goal").addEventListener("click", () => this.#goal());
		for (const id of ["publish-channel", "publish-type", "publish-data"]) {
			$(id).addEventListener("input", () => this.#preview());
		}
		$("publish-channel").addEventListener("focus", () => {
			$("channels").replaceChildren(...[...board.channels, "football/", "cricket/"].map((name) => h("option", { value: name })));
		});
		$("types").replaceChildren(...stream.types.filter((type) => type !== "message").map((type) => h("option", { value: type })));
		$("publish").addEventListener("submit", (e) => {
			e.preventDefault();
			this.#publish();
		});
		$("curl-copy").addEventListener("click", () => this.#copy());
		this.#fill(EXAMPLES[0], $("presets").firstElementChild);
	}

	/** Watches for what was published here to come back on the stream. */
	take(event) {
		this.#recent.set(event.id, { at: performance.now(), channel: event.channel });
		if (this.#recent.size > 50) this.#recent.delete(this.#recent.keys().next().value);
		this.#back(event.id);
	}

	#fill(example, button) {
		for (const other of $("presets").children) attr(other, "aria-pressed", String(other === button));
		$("publish-channel").value = example.channel;
		$("publish-type").value = example.type;
		const data = typeof example.data === "function" ? example.data(this.#board.state(example.channel)) : example.data;
		$("publish-data").value = JSON.stringify(data, null, 2);
		text($("publish-hint"), example.hint);
		this.#preview();
	}

	get #path() {
		const channel = $("publish-channel").value.trim().split("/").map(encodeURIComponent).join("/");
		const type = $("publish-type").value.trim();
		return `${this.#stream.mount}/${channel}${type ? `?event=${encodeURIComponent(type)}` : ""}`;
	}

	// What is sent: what was typed, on one line if it is JSON.
	get #body() {
		const typed = $("publish-data").value;
		try {
			return { json: true, body: JSON.stringify(JSON.parse(typed)) };
		} catch {
			return { json: false, body: typed };
		}
	}

	#preview() {
		const { json, body } = this.#body;
		text($("publish-check"), json ? "JSON ✓" : "not JSON: goes as plain text");
		$("publish-check").dataset.kind = json ? "json" : "text";
		// --data would take a leading @ for a file's name.
		const flag = body.startsWith("@") ? "--data-raw" : "-d";
		$("curl").replaceChildren(
			h("span.command", null, "curl"), ` ${flag} `, h("span.string", null, quote(body)), " \\\n  ",
			h("span.url", null, quote(location.origin + this.#path)));
	}

	// The button of the strip: one more goal for the home side of a match that is on.
	async #goal() {
		const matches = this.#board.channels.filter((name) => name.startsWith("football/"));
		const on = matches.find((name) => !["full_time", "half_time"].includes(this.#board.state(name).phase)) ?? matches[0];
		this.#fill(EXAMPLES[1], $("presets").children[1]);
		if (on && on !== EXAMPLES[1].channel) {
			$("publish-channel").value = on;
			$("publish-data").value = JSON.stringify(EXAMPLES[1].data(this.#board.state(on)), null, 2);
			this.#preview();
		}
		this.#fromStrip = true;
		await this.#publish();
		this.#fromStrip = false;
	}

	async #publish() {
		const type = $("publish-type").value.trim();
		this.#stream.listen(type);
		const { json, body } = this.#body;
		const begun = performance.now();
		$("publish-button").disabled = true;
		$("answer-echo").hidden = true;
		try {
			const answer = await fetch(this.#path, {
				method: "POST",
				headers: { "Content-Type": json ? "application/json" : "text/plain" },
				body,
			});
			const said = (await answer.text()).trim();
			this.#answer(answer.ok, `${answer.status} ${answer.statusText || ""} in ${Math.round(performance.now() - begun)} ms`, said);
			if (answer.ok) this.#published(said, begun);
		} catch (error) {
			this.#answer(false, "No answer", String(error.message ?? error));
		} finally {
			$("publish-button").disabled = false;
		}
	}

	#published(said, begun) {
		let id;
		try {
			id = JSON.parse(said).id;
		} catch {
			return; // another kind of answer; it is shown as it is
		}
		if (!id) return;
		this.#sent.set(id, { begun, strip: this.#fromStrip });
		this.#feed.mine(id);
		this.#back(id);
	}

	#back(id) {
		const sent = this.#sent.get(id);
		const arrived = this.#recent.get(id);
		if (!sent || !arrived) return;
		this.#sent.delete(id);
		const ms = `${Math.max(Math.round(arrived.at - sent.begun), 1)} ms`;
		$("answer-echo").hidden = false;
		text($("answer-echo"), `Back on the stream ${ms} after the click.`);
		if (sent.strip) this.#say(`Back after ${ms}, on ${arrived.channel}`, "good");
		this.#board.flash(arrived.channel);
	}

	#answer(good, head, body) {
		$("answer").dataset.kind = good ? "good" : "bad";
		text($("answer-head"), head + ".");
		if (!good && this.#fromStrip) this.#say(`Not published: ${head}`, "bad");
		text($("answer-body"), words(pretty(body), 2000));
	}

	async #copy() {
		const button = $("curl-copy");
		try {
			await navigator.clipboard.writeText($("curl").textContent);
			text(button, "Copied");
		} catch {
			getSelection().selectAllChildren($("curl"));
			text(button, "Selected");
		}
		setTimeout(() => text(button, "Copy"), 1600);
	}
}

// quote quotes a text for a shell.
const quote = (s) => `'${s.replaceAll("'", `'\\''`)}'`;

function pretty(body) {
	try {
		const value = JSON.parse(body);
		return Object.keys(value).length > 1 ? JSON.stringify(value, null, 2) : body;
	} catch {
		return body;
	}
}
