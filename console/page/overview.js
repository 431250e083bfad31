
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
			this.show(await askJSON("_console/stats"));
			live.ok();
		} catch (error) {
			live.failed(error);
			this.last = null;
		}
		setTimeout(() => this.look(), live.denied ? 5000 : 1000);
	},

	show(s) {
		const now = Date.parse(s.time) / 1000, was = this.last;
		this.last = { now, s };
		$("where").textContent = `${base || "/"} · ${s.broker}${s.node ? ` · ${s.node}` : ""}`;
		document.title = `${count(s.streams)} streams · evstream console`;
		const c = this.cards;
		c.streams.textContent = count(s.streams);
		c.channels.textContent = count(s.channels);
		c.values.textContent = count(s.values);
		c.members.textContent = count(s.members);
		c.gaps.textContent = count(s.gaps_total);
		c.memory.textContent = bytes(s.memory_bytes);
		if (was && now > was.now && s.published_total >= was.s.published_total) {
			const per = (name) => (s[name] - was.s[name]) / (now - was.now);
			const published = per("published_total"), delivered = per("delivered_total");
			c.published.textContent = rate(published);
			c.delivered.textContent = rate(delivered);
			this.charts.flow.add(now, published, delivered);
			const lags = s.lag.counts_total.map((n, i) => n - was.s.lag.counts_total[i]);
			this.charts.lag.add(now, quantile(s.lag, lags, 0.5), quantile(s.lag, lags, 0.99));
			this.charts.memory.add(now, s.memory_bytes, s.history_bytes);
		}
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

function facts(id, of) {
	const text = JSON.stringify(of);
	if ($(id).dataset.text === text) return;
	$(id).dataset.text = text;
	$(id).replaceChildren(...Object.entries(of).filter(([, v]) => v).flatMap(([name, value]) => [el("dt", {}, name), el("dd", {}, value)]));
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
