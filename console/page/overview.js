
// The overview: numbers each second, and their charts.

const overview = {
	last: null,
	charts: null,

	start() {
		this.charts = {
			flow: new Chart("Events a second", [["published", "a"], ["delivered", "b"]], rate),
			lag: new Chart("Publish to written", [["median", "a"], ["99 %", "b"]], seconds),
			memory: new Chart("Memory", [["process", "a"], ["histories", "b"]], bytes),
		};
		$("charts").append(...Object.values(this.charts).map((c) => c.element));
		this.cards = {};
		for (const [key, title] of [["streams", "Streams"], ["published", "Published / s"], ["delivered", "Delivered / s"], ["channels", "Channels"], ["values", "Values"], ["members", "Present"], ["gaps", "Gaps told"], ["memory", "Memory"]]) {
			this.cards[key] = el("dd", {}, "–");
			$("cards").append(el("div", {}, el("dt", {}, title), this.cards[key]));
		}
		this.look();
	},

	async look() {
		try {
			this.take(await askJSON("_console/stats"));
			live.ok();
		} catch (error) {
			live.failed(error);
			this.last = null;
		}
		setTimeout(() => this.look(), live.denied ? 5000 : 1000);
	},

	show() {
		if (this.last) this.write(this.last.s);
		for (const chart of Object.values(this.charts)) chart.plan();
	},

	// take takes in the numbers of now. They are written while somebody sees them.
	take(s) {
		const now = Date.parse(s.time) / 1000, was = this.last;
		this.last = { now, s };
		if (was && now > was.now && s.published_total >= was.s.published_total) {
			const per = (name) => (s[name] - was.s[name]) / (now - was.now);
			this.flow = { published: per("published_total"), delivered: per("delivered_total") };
			this.charts.flow.add(now, this.flow.published, this.flow.delivered);
			const lags = s.lag.counts_total.map((n, i) => n - was.s.lag.counts_total[i]);
			this.charts.lag.add(now, quantile(s.lag, lags, 0.5), quantile(s.lag, lags, 0.99));
			this.charts.memory.add(now, s.memory_bytes, s.history_bytes);
		}
		document.title = `${count(s.streams)} streams · evstream console`;
		if (!$("overview").hidden) this.show();
	},

	write(s) {
		set($("where"), `${base || "/"} · ${s.broker}${s.node ? ` · ${s.node}` : ""}`);
		const c = this.cards;
		set(c.streams, count(s.streams));
		set(c.published, this.flow ? rate(this.flow.published) : "–");
		set(c.delivered, this.flow ? rate(this.flow.delivered) : "–");
		set(c.channels, count(s.channels));
		set(c.values, count(s.values));
		set(c.members, count(s.members));
		set(c.gaps, count(s.gaps_total));
		set(c.memory, bytes(s.memory_bytes));
		facts("facts", {
			Log: `${s.log ? s.log.adapter : "unknown"}, ${s.log_up ? "up" : "out of reach"}`,
			"On the disk": s.log?.size_bytes ? `${bytes(s.log.size_bytes)}, ${bytes(s.log.free_bytes || 0)} of it free` : "",
			"Newest entry": s.head,
			Nodes: s.nodes ? s.nodes.map((n) => n === s.node ? `${n} (this one)` : n).join(", ") + (s.nodes_known ? "" : ", maybe others") : "this one alone",
			Patterns: count(s.patterns),
			"Recorded answers": count(s.recording),
		});
		const ended = Object.fromEntries(Object.entries(s.disconnects_total || {}).map(([k, n]) => [`ended: ${k}`, count(n)]));
		const refused = Object.fromEntries(Object.entries(s.refusals_total || {}).map(([k, n]) => [`refused: ${k}`, count(n)]));
		facts("counts", Object.keys({ ...ended, ...refused }).length ? { ...refused, ...ended } : { Nothing: "no stream was refused or has ended" });
	},
};

// facts writes a list of names and values; what stays is left as it is.
function facts(id, of) {
	const list = $(id), all = Object.entries(of).filter(([, v]) => v);
	const names = JSON.stringify(all.map(([name]) => name));
	if (list.dataset.names !== names) list.replaceChildren(...all.flatMap(([name]) => [el("dt", {}, name), el("dd", {}, "")]));
	list.dataset.names = names;
	all.forEach(([, value], i) => set(list.children[2 * i + 1], value));
}

// quantile estimates one of a histogram: counts are those of its buckets, bounds their upper
// ends in seconds. It is null where nothing was counted.
function quantile(lag, counts, q) {
	const all = counts.reduce((a, b) => a + b, 0);
	if (!all) return null;
	let below = 0;
	for (let i = 0; i < counts.length; i++) {
		if (below + counts[i] >= q * all) {
			const low = i ? lag.bounds[i - 1] : 0, high = i < lag.bounds.length ? lag.bounds[i] : low * 2;
			return low + (high - low) * (q * all - below) / counts[i];
		}
		below += counts[i];
	}
	return null;
}
