
// A chart of up to two series over the last two minutes.

const span = 120; // seconds
const svg = (name, attributes) => {
	const e = document.createElementNS("http://www.w3.org/2000/svg", name);
	for (const [key, value] of Object.entries(attributes)) e.setAttribute(key, value);
	return e;
};

class Chart {
	// series are [name, class]; write writes a value.
	constructor(title, series, write) {
		this.title = title;
		this.series = series.map(([name, type]) => ({ name, type, points: [], path: svg("path", { class: type }), now: el("b", {}, "–") }));
		this.write = write;
		this.top = el("span", {}, "");
		this.picture = svg("svg", { viewBox: "0 0 100 100", preserveAspectRatio: "none", role: "img", "aria-label": title });
		for (const y of [0, 50, 100]) this.picture.append(svg("line", { x1: 0, x2: 100, y1: y, y2: y }));
		this.picture.append(...this.series.map((s) => s.path));
		this.element = el("figure", { className: "chart" },
			el("figcaption", {}, el("strong", {}, title), this.top, el("span", { className: "keys" }, ...this.series.map((s) => el("span", { className: `key ${s.type}` }, `${s.name} `, s.now)))), this.picture);
		this.frame = 0;
	}

	// add adds a point of each series, of a time in seconds.
	add(at, ...values) {
		this.at = at;
		values.forEach((value, i) => {
			const s = this.series[i];
			s.points.push([at, value]);
			while (s.points[0][0] < at - span - 2) s.points.shift();
		});
	}

	// plan has it drawn in the next frame.
	plan() {
		if (this.at) this.frame ||= requestAnimationFrame(() => this.draw());
	}

	draw() {
		this.frame = 0;
		const known = this.series.flatMap((s) => s.points.map((p) => p[1])).filter((v) => v !== null);
		const top = niceTop(Math.max(0, ...known));
		for (const s of this.series) {
			let d = "", open = false;
			for (const [at, value] of s.points) {
				if (value === null) { open = false; continue; }
				d += `${open ? "L" : "M"}${(100 - (this.at - at) / span * 100).toFixed(2)} ${(100 - value / top * 100).toFixed(2)}`;
				open = true;
			}
			s.path.setAttribute("d", d);
			const last = s.points.at(-1)[1];
			set(s.now, last === null ? "–" : this.write(last));
		}
		set(this.top, `top ${this.write(top)}`);
		this.picture.setAttribute("aria-label", `${this.title} over the last two minutes. ` + this.series.map((s) => `${s.name}: ${s.now.textContent}`).join(", "));
	}
}

// niceTop is the least 1, 2 or 5 times a power of ten that is not below n.
function niceTop(n) {
	if (n <= 0) return 1;
	const power = 10 ** Math.floor(Math.log10(n));
	return [1, 2, 5, 10].find((f) => f * power >= n) * power;
}
