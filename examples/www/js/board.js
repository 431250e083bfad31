// The board: which match an event is about, and what it does to its card.

import { $, animate, h, object, text, plural, words } from "./dom.js";
import { football, shouts as footballShouts } from "./football.js";
import { cricket, shouts as cricketShouts } from "./cricket.js";
import { colours, sidesOf, team } from "./teams.js";

const SPORTS = {
	football: { make: football, shouts: footballShouts },
	cricket: { make: cricket, shouts: cricketShouts },
};
const MOST_CARDS = 24; // a sport; anyone may publish to a new channel

export class Board {
	#cards = new Map(); // by channel
	#idle = [...$("news-text").childNodes];

	constructor(stream) {
		$("news-close").addEventListener("click", () => {
			$("news-close").hidden = true;
			text($("news-tag"), "To all");
			$("news-text").replaceChildren(...this.#idle);
		});
		stream.addEventListener("state", (e) => this.#state(e.detail));
	}

	// What the blank cards wait for.
	#state(state) {
		clearTimeout(this.#empty);
		const say = (words) => {
			for (const sport of Object.keys(SPORTS)) {
				if ($(`${sport}-cards`).querySelector(".blank")) text($(`${sport}-count`), words);
			}
		};
		if (state === "live") {
			this.#empty = setTimeout(() => {
				if (this.#cards.size) document.querySelectorAll(".card.blank").forEach((blank) => blank.remove());
				say("No match is being played: publish one below");
			}, 4000);
		} else if (this.#cards.size) return;
		else say(state === "gone" || state === "offline" ? "No match to show: the server does not answer" : "Waiting for the first event");
	}

	#empty = 0; // a timer: nothing came

	/** What a card knows of its match, for the form. */
	state(channel) {
		return this.#cards.get(channel)?.state;
	}

	/** Shows which card an event that was published here has changed. */
	flash(channel) {
		const node = this.#cards.get(channel)?.node;
		if (!node) return;
		node.scrollIntoView({ block: "nearest", behavior: "smooth" });
		animate(node, [
			{ outlineColor: "var(--football)", outlineOffset: "0px" },
			{ outlineColor: "transparent", outlineOffset: "9px" },
		], { duration: 900, iterations: 2, easing: "ease-out" });
	}

	get channels() {
		return [...this.#cards.keys()];
	}

	/** Applies an event. A replayed one changes the card without animation. */
	take(event) {
		const sport = event.channel.split("/")[0];
		if (!SPORTS[sport]) return;
		const data = object(event.data);
		if (event.type === "announcement") {
			this.#announce(sport, event, data);
			return;
		}
		if (event.channel.endsWith("/")) return; // for all channels beneath: about no match
		const card = this.#card(sport, event.channel);
		if (!card) return;

		// An event with a round is from the generator and has all of a match; one
		// from the form changes only the fields it has.
		const was = card.state;
		card.state = data.round !== undefined ? data : { ...was, player: "", team: "", ...data };
		const quiet = event.history || event.late;
		this.#draw(card, quiet);
		if (event.type === "clock") return;
		const shout = SPORTS[sport].shouts[event.type];
		const told = words(data.text) || (event.type === "snapshot" ? words(data.match) : say(event, data));
		text(card.ticker, told);
		card.ticker.toggleAttribute("data-big", Boolean(shout));
		if (shout && !quiet) this.#shout(card, event, shout, was);
	}

	// A burst of events, such as a replay, draws a card once.
	#draw(card, quiet) {
		card.quiet = quiet && (card.quiet ?? true);
		if (card.frame) return;
		card.frame = requestAnimationFrame(() => {
			card.draw(card.state, card.quiet);
			card.frame = card.quiet = undefined;
		});
	}

	#card(sport, channel) {
		const known = this.#cards.get(channel);
		if (known) return known;
		const place = $(`${sport}-cards`);
		const siblings = [...this.#cards.keys()].filter((name) => name.startsWith(sport + "/"));
		if (siblings.length >= MOST_CARDS) return null;
		const card = { ...SPORTS[sport].make(channel), state: {}, channel };
		const blank = place.querySelector(".blank");
		const next = siblings.filter((name) => name > channel).sort()[0];
		place.insertBefore(card.node, next ? this.#cards.get(next).node : blank);
		blank?.remove();
		this.#cards.set(channel, card);
		text($(`${sport}-count`), plural(siblings.length + 1, "match", "matches"));
		animate(card.node, [{ transform: "translateY(10px)" }, {}], { duration: 420, easing: "ease-out" });
		return card;
	}

	#announce(sport, event, data) {
		const news = $("news");
		const message = words(data.message) || words(event.raw);
		const changed = $("news-text").textContent !== message;
		$("news-close").hidden = false;
		news.dataset.sport = sport;
		text($("news-tag"), `All ${sport}`);
		text($("news-text"), message);
		if (changed) animate(news, [{ transform: "translateY(-8px)" }, {}], { duration: 380, easing: "ease-out" });
	}

	#shout(card, event, shout, was) {
		const [home, away] = sidesOf(card.state.match, card.channel);
		const sides = [team(card.state.home, home), team(card.state.away, away)];
		const scorer = sides.find((one) => one.name === card.state.team) ??
			sides[card.state.awayScore > (was.awayScore ?? 0) ? 1 : 0];
		const tones = {
			red: ["var(--red)", "#fff"],
			gold: ["var(--cricket)", "var(--button-ink)"],
			plain: ["var(--raised)", "var(--ink)"],
			side: [colours(scorer)[0], readable(colours(scorer)[0])],
		};
		const word = typeof shout.word === "function" ? shout.word(card.state) : shout.word;
		const node = h("div.shout", { "aria-hidden": "true" }, word);
		node.style.setProperty("--shout", tones[shout.tone][0]);
		node.style.setProperty("--shout-ink", tones[shout.tone][1]);
		const head = card.node.children[1];
		node.style.setProperty("--shout-height", `${head.offsetTop + head.offsetHeight}px`);
		card.node.append(node);
		const shown = animate(node, [
			{ opacity: 0, clipPath: "inset(0 100% 0 0)" },
			{ opacity: 1, clipPath: "inset(0 0 0 0)", offset: 0.16, easing: "linear" },
			{ opacity: 1, clipPath: "inset(0 0 0 0)", offset: 0.8, easing: "ease-in" },
			{ opacity: 0, clipPath: "inset(0 0 0 100%)" },
		], { duration: event.type === "boundary" ? 1300 : 2000, easing: "cubic-bezier(.2,.8,.2,1)" });
		if (shown) shown.onfinish = shown.oncancel = () => node.remove();
		else node.remove();
		card.node.dataset.lit = "";
		clearTimeout(card.unlit);
		card.unlit = setTimeout(() => delete card.node.dataset.lit, 2600);
		text($("live"), `${card.node.getAttribute("aria-label")}: ${words(event.data?.text) || word}`);
	}
}

// say describes an event that has no text of its own.
export function say(event, data) {
	const parts = [event.type.replace(/_/g, " ")];
	if (data.player) parts.push(words(data.player, 60));
	if (data.homeScore !== undefined) parts.push(`${words(data.homeScore, 8)}–${words(data.awayScore, 8)}`);
	if (data.finalScore) parts.push(words(data.finalScore, 20));
	if (data.message) parts.push(words(data.message));
	return parts.join(" · ");
}

function readable(colour) {
	const [r, g, b] = colour.startsWith("#") ? [1, 3, 5].map((at) => Number.parseInt(colour.slice(at, at + 2), 16)) : [0, 0, 0];
	return r * 0.3 + g * 0.59 + b * 0.11 > 150 ? "#15171a" : "#fff";
}
