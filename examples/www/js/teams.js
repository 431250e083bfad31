// The crests. A team that is not listed gets colours from its name.

import { h, svg, words } from "./dom.js";

const COLOURS = {
	ARS: ["#d6202f", "#f6f1ea"],
	CHE: ["#1b49c9", "#e9eefc"],
	BAR: ["#9b1b45", "#1d3f9e"],
	RMA: ["#efe9d8", "#b78d1e"],
	FCB: ["#cb1230", "#0c56a8"],
	BVB: ["#ffd21f", "#17181a"],
	IND: ["#1668c7", "#ff9a3d"],
	AUS: ["#ffcb1f", "#0a6b49"],
	ENG: ["#13306b", "#cf2338"],
	SA: ["#0b7a51", "#ffb71f"],
};

export function colours(team) {
	return COLOURS[team.code] ?? (() => {
		let hash = 7;
		for (const letter of team.name) hash = (hash * 31 + letter.codePointAt(0)) % 3600;
		return [`hsl(${hash / 10} 62% 42%)`, `hsl(${(hash / 10 + 150) % 360} 50% 78%)`];
	})();
}

/** A team from an event, which may be an object, a name, or nothing at all. */
export function team(value, fallback) {
	const name = words(value?.name ?? value ?? "", 40) || fallback;
	const code = words(value?.code, 4) || name.replace(/[^\p{L}\p{N}]/gu, "").slice(0, 3).toUpperCase();
	return { name, code };
}

/** The two sides of a match: of its name, else of its channel's. */
export function sidesOf(match, channel) {
	const title = words(match, 80) || channel.split("/").pop().replace(/-/g, " ");
	const [home, away] = title.split(/\s+(?:vs?\.?|–|-)\s+/i);
	return [capital(home), capital(away || "Visitors")];
}

const capital = (name) => name.charAt(0).toUpperCase() + name.slice(1);

/** A crest: a shield for football, a cap's badge for cricket. */
export function crest(sport, side) {
	const [main, second] = colours(side);
	const clip = `crest-${Math.random().toString(36).slice(2)}`;
	const shape = () => sport === "cricket"
		? svg("circle", { cx: 23, cy: 26, r: 22 })
		: svg("path", { d: "M23 1.5 43 7v19c0 12-8.5 20-20 25C11.5 46 3 38 3 26V7Z" });
	const outline = shape();
	outline.setAttribute("fill", "none");
	outline.setAttribute("stroke", "rgb(127 140 134 / 55%)");
	const band = sport === "cricket"
		? svg("path", { d: "M-2 38 46 30v24H-2Z", fill: second })
		: svg("path", { d: "M33.5 0h13v54h-13Z", fill: second });
	const code = svg("text", { x: sport === "cricket" ? 23 : 18.5, y: sport === "cricket" ? 26 : 29, fill: dark(main) ? "#fff" : "#15171a" });
	code.textContent = side.code;
	if (side.code.length > 3) code.setAttribute("textLength", "30");
	return h("span", { "aria-hidden": "true" }, svg("svg.crest", { viewBox: "0 0 46 53" },
		svg("clipPath", { id: clip }, shape()),
		svg("g", { "clip-path": `url(#${clip})` }, svg("rect", { width: 46, height: 54, fill: main }), band, code),
		outline));
}

function dark(colour) {
	if (!colour.startsWith("#")) return true;
	const [r, g, b] = [1, 3, 5].map((at) => Number.parseInt(colour.slice(at, at + 2), 16));
	return r * 0.3 + g * 0.59 + b * 0.11 < 150;
}
