// Small helpers. Everything that comes from an event goes into the page as
// text, never as markup.

const SVG = "http://www.w3.org/2000/svg";

/** The element with an id. */
export const $ = (id) => document.getElementById(id);

/** An element: h("p.note", {hidden: true}, "text", child). Attributes only. */
export function h(what, attributes, ...children) {
	return build(document.createElement(what.split(".")[0]), what, attributes, children);
}

/** The same for SVG. */
export function svg(what, attributes, ...children) {
	return build(document.createElementNS(SVG, what.split(".")[0]), what, attributes, children);
}

function build(node, what, attributes, children) {
	const classes = what.split(".").slice(1);
	if (classes.length) node.classList.add(...classes);
	for (const [name, value] of Object.entries(attributes ?? {})) attr(node, name, value);
	node.append(...children.filter((child) => child !== null && child !== undefined));
	return node;
}

/** Sets an attribute; true is an empty one, false and undefined remove it. */
export function attr(node, name, value) {
	if (value === undefined || value === null || value === false) node.removeAttribute(name);
	else node.setAttribute(name, value === true ? "" : String(value));
}

/** Sets a node's text, and leaves it alone when nothing changes. */
export function text(node, value) {
	const wanted = value === undefined || value === null ? "" : String(value);
	if (node.textContent !== wanted) node.textContent = wanted;
}

/** A number from an event that may hold anything. */
export function number(value, otherwise = 0) {
	const n = typeof value === "number" ? value : Number.parseFloat(value);
	return Number.isFinite(n) ? n : otherwise;
}

/** Short text from an event that may hold anything. */
export function words(value, most = 200) {
	if (typeof value !== "string" && typeof value !== "number") return "";
	const s = String(value);
	return s.length > most ? s.slice(0, most - 1) + "…" : s;
}

/** An object, or an empty one. */
export const object = (value) => (value && typeof value === "object" && !Array.isArray(value) ? value : {});

/** A list, or an empty one. */
export const list = (value) => (Array.isArray(value) ? value : []);

export const plural = (n, one, many = one + "s") => `${n.toLocaleString("en")} ${n === 1 ? one : many}`;

const still = matchMedia("(prefers-reduced-motion: reduce)");

/** Animates, unless the reader prefers reduced motion. */
export function animate(node, frames, options) {
	return still.matches || document.hidden ? null : node.animate(frames, options);
}

/** A score whose digits roll when it changes. Returns what sets it. */
export function roller() {
	let shown = null;
	const node = h("span.score", null);
	const set = (value, quiet) => {
		const next = String(value);
		if (next === shown) return;
		const old = node.lastElementChild;
		const digit = h("span", null, next);
		const rolling = shown !== null && !quiet && old &&
			animate(old, [{}, { transform: "translateY(-105%)" }], { duration: 420, easing: "cubic-bezier(.6,0,.3,1)" });
		shown = next;
		if (!rolling) {
			node.replaceChildren(digit);
			return;
		}
		node.replaceChildren(old, digit);
		old.setAttribute("aria-hidden", "true");
		animate(digit, [{ transform: "translateY(105%)" }, {}], { duration: 420, easing: "cubic-bezier(.6,0,.3,1)" });
		rolling.onfinish = rolling.oncancel = () => old.remove();
	};
	return { node, set };
}
