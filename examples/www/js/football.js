// A football match as a card.

import { attr, h, list, number, roller, text, words } from "./dom.js";
import { colours, crest, sidesOf, team } from "./teams.js";

const PHASES = { half_time: "Half-time", full_time: "Full time" };
const SHOWN = 3; // names a side; the rest are on the line

/** The words across a card, and their colours; "side" is the colour of the team that scored. */
export const shouts = {
	score_update: { word: "Goal", tone: "side" },
	red_card: { word: "Red card", tone: "red" },
	match_end: { word: "Full time", tone: "plain" },
};

export function football(channel) {
	const [home, away] = [side(), side()];
	const phase = h("span.phase");
	const done = h("div.line-done");
	const line = h("div.line", { "aria-hidden": "true" });
	const moments = [h("ul"), h("ul")];
	const [possession, shots, corners] = [share("ball"), share("shots"), share("corners")];
	const ticker = h("p.ticker");
	const node = h("article.card.football", { "aria-label": channel },
		h("div.card-top", null, h("span.card-channel", { title: channel }, channel)),
		h("div.teams", null, home.node,
			h("div.middle", null, h("div.numbers", null, home.score.node, h("i"), away.score.node), phase), away.node),
		line,
		h("div.moments", null, ...moments),
		h("div.stats", null, possession.node, shots.node, corners.node),
		ticker);

	let drawn = "";
	const draw = (state, quiet) => {
		const names = sidesOf(state.match, channel);
		const teams = [team(state.home, names[0]), team(state.away, names[1])];
		const key = JSON.stringify(teams);
		if (key !== drawn) {
			drawn = key;
			home.show(teams[0]);
			away.show(teams[1]);
			node.style.setProperty("--home", colours(teams[0])[0]);
			node.style.setProperty("--away", colours(teams[1])[0]);
			node.setAttribute("aria-label", `${teams[0].name} against ${teams[1].name}`);
		}
		home.score.set(number(state.homeScore), quiet);
		away.score.set(number(state.awayScore), quiet);

		const over = state.phase === "full_time";
		node.dataset.play = over ? "over" : state.phase === "half_time" ? "break" : "on";
		text(phase, PHASES[state.phase] ?? `${words(state.clock, 8) || number(state.minute)}′`);
		done.style.setProperty("--at", over ? 1 : at(number(state.minute)));

		const timeline = list(state.timeline).slice(-40);
		line.replaceChildren(done, h("i.line-half"), ...timeline.map(mark));
		for (const [i, which] of ["home", "away"].entries()) {
			moments[i].replaceChildren(...roll(timeline.filter((x) => x?.side === which)).map((x) =>
				h("li", { "data-kind": words(x.kind, 10) }, h("i"), `${words(x.player, 30)} ${x.clocks.join(", ")}`)));
		}
		possession.show(state.possession, "%", "Possession");
		shots.show(state.shots, "", "Shots");
		corners.show(state.corners, "", "Corners");
	};
	return { node, draw, ticker, phase };
}

const at = (minute) => Math.min(Math.max(minute / 90, 0), 1).toFixed(4);

function side() {
	const badge = h("div");
	const name = h("b");
	const score = roller();
	return {
		node: h("div.side", null, badge, name),
		score,
		show(who) {
			badge.replaceChildren(crest("football", who));
			text(name, who.name);
		},
	};
}

function mark(x) {
	const node = h("i.mark-at", { "data-kind": words(x?.kind, 10), "data-side": words(x?.side, 5) });
	node.style.setProperty("--at", at(number(x?.clock)));
	return node;
}

// roll gathers a scorer's goals on one line, goals and reds before bookings.
function roll(side) {
	const rows = [];
	for (const x of side) {
		const clock = `${words(x.clock, 6)}′`;
		const same = rows.find((row) => row.kind === x.kind && row.player === x.player);
		if (same) same.clocks.push(clock);
		else rows.push({ ...x, clocks: [clock] });
	}
	const weight = (row) => ["goal", "red"].includes(row.kind) ? 0 : 1;
	return rows.sort((a, b) => weight(a) - weight(b)).slice(0, SHOWN);
}

function share() {
	const left = h("b");
	const label = h("span.share-label");
	const right = h("b");
	const bars = [h("i"), h("i")];
	const node = h("div.stat", null, left, h("div", null, label, h("div.share", { "aria-hidden": "true" }, ...bars)), right);
	return {
		node,
		show(pair, unit, name) {
			attr(node, "hidden", !Array.isArray(pair));
			const values = [number(pair?.[0]), number(pair?.[1])];
			text(left, values[0] + unit);
			text(label, name);
			text(right, values[1] + unit);
			const sum = values[0] + values[1];
			attr(bars[0].parentNode, "data-none", sum === 0);
			bars.forEach((bar, i) => {
				bar.style.flexGrow = sum > 0 ? Math.max(values[i] / sum, 0.02) : 1;
			});
		},
	};
}
