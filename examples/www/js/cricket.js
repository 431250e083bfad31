// A cricket match as a card.

import { attr, h, list, number, object, roller, text, words } from "./dom.js";
import { colours, crest, sidesOf, team } from "./teams.js";

const PHASES = { toss: "Toss", innings_break: "Innings break", finished: "Finished" };

export const shouts = {
	wicket: { word: "Wicket", tone: "red" },
	boundary: { word: (state) => (number(state.runs) === 6 ? "Six" : "Four"), tone: "gold" },
	match_end: { word: "Match over", tone: "plain" },
};

export function cricket(channel) {
	const phase = h("span.phase");
	const badge = h("div");
	const name = h("h3");
	const runs = roller();
	const wickets = roller();
	const overs = h("span.overs");
	const rate = h("b");
	const needed = h("b");
	const neededBox = h("div", null, needed, "required");
	const chaseBar = h("i");
	const chaseLeft = h("span");
	const chaseRight = h("b");
	const crease = h("ul.crease");
	const balls = h("ul.balls", { "aria-label": "The last balls" });
	const ticker = h("p.ticker");
	const node = h("article.card.cricket", { "aria-label": channel },
		h("div.card-top", null, h("span.card-channel", { title: channel }, channel), phase),
		h("div.innings", null, badge,
			h("div", null, name,
				h("div.numbers", null, runs.node, h("span.slash", null, "/"), wickets.node, overs)),
			h("div.rates", null, h("div", null, rate, "run rate"), neededBox)),
		h("div.chase", null, h("div.chase-words", null, chaseLeft, chaseRight), h("div.chase-bar", { "aria-hidden": "true" }, chaseBar)),
		balls,
		crease,
		ticker);

	let drawn = "";
	let innings = "";
	const draw = (state, quiet) => {
		const names = sidesOf(state.match, channel);
		const home = team(state.home, names[0]);
		const away = team(state.away, names[1]);
		const [batting, bowling] = state.batting === "away" ? [away, home] : [home, away];
		const key = JSON.stringify([home, away, batting]);
		if (key !== drawn) {
			drawn = key;
			badge.replaceChildren(crest("cricket", batting));
			text(name, batting.name);
			node.style.setProperty("--home", colours(home)[0]);
			node.style.setProperty("--away", colours(away)[0]);
			node.setAttribute("aria-label", `${home.name} against ${away.name}`);
		}
		// A new innings starts at nought: nothing to celebrate.
		const still = quiet || innings !== `${state.round}/${state.innings}`;
		innings = `${state.round}/${state.innings}`;
		runs.set(number(state.totalRuns), still);
		wickets.set(number(state.totalWickets), still);
		const most = number(state.maxOvers, 20);
		text(overs, `${words(state.overs, 8) || "0.0"} / ${most} ov`);
		text(rate, number(state.runRate).toFixed(2));

		node.dataset.play = state.phase === "finished" ? "over" : ["toss", "innings_break"].includes(state.phase) ? "break" : "on";
		text(phase, PHASES[state.phase] ?? (number(state.innings, 1) === 2 ? "2nd innings" : "1st innings"));

		chase(state, most, batting, bowling);
		crease.replaceChildren(...list(state.batters).slice(0, 2).map(batter), bowlerOf(object(state.bowler)));
		const recent = list(state.recent).slice(-12);
		balls.replaceChildren(...recent.map((ball) => h("li", { "data-ball": words(ball, 3), "aria-hidden": ball === "|" && "true" }, words(ball, 3))));
	};

	function chase(state, most, batting, bowling) {
		const second = number(state.innings, 1) === 2;
		const target = number(state.target);
		const first = object(state.first);
		const need = number(state.needRuns);
		const left = number(state.needBalls);
		const [full, part] = words(state.overs, 8).split(".").map((x) => number(x));
		const gone = ((full || 0) * 6 + (part || 0)) / (most * 6);
		attr(neededBox, "hidden", !(second && need > 0 && left > 0));
		text(needed, left > 0 ? ((need * 6) / left).toFixed(2) : "");
		if (second && target > 0) {
			text(chaseLeft, `${bowling.name} ${number(first.runs)}/${number(first.wickets)}`);
			text(chaseRight, words(state.result) || (need > 0 ? `${need} needed from ${left}` : `Target ${target}`));
			chaseBar.style.setProperty("--at", Math.min(number(state.totalRuns) / target, 1).toFixed(4));
		} else {
			text(chaseLeft, `${bowling.name} to bat next`);
			text(chaseRight, target > 0 ? `Target ${target}` : "");
			chaseBar.style.setProperty("--at", Math.min(gone, 1).toFixed(4));
		}
	}
	return { node, draw, ticker, phase };
}

function batter(value, i) {
	const who = object(value);
	return h("li", { "data-strike": i === 0 }, h("span", null, words(who.name, 40)),
		h("b", null, String(number(who.runs)), h("small", null, ` (${number(who.balls)})`)));
}

function bowlerOf(who) {
	if (!who.name) return "";
	return h("li.bowler", null, h("span", null, `${words(who.name, 40)}, bowling`),
		h("b", null, `${number(who.wickets)}`, h("small", null, ` for ${number(who.runs)}`)));
}
