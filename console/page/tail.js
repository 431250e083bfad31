
// The live tail of a channel or a pattern. Rows are written four times a second, so that
// thousands of events a second hold nothing up.

const tail = {
	rows: [], fresh: [], total: 0, passed: 0, shown: 0, held: false, stop: null, since: 0, text: "",

	start() {
		$("tail-form").onsubmit = (e) => { e.preventDefault(); this.stop ? this.end("Stopped.") : this.follow(); };
		$("tail-form").filter.oninput = (e) => { this.text = e.target.value.toLowerCase(); };
		$("tail-pause").onclick = () => this.hold();
		setInterval(() => this.draw(), 250);
	},
	show() {},
	open(channel) {
		this.end("");
		$("tail-form").channel.value = channel;
		this.follow();
	},
	hold() {
		if (!this.stop) return;
		this.held = !this.held;
		$("tail-pause").setAttribute("aria-pressed", String(this.held));
	},

	follow() {
		const { channel, last } = fields($("tail-form"));
		Object.assign(this, { rows: [], fresh: [], total: 0, passed: 0, shown: 0, held: false, since: Date.now(), stop: new AbortController() });
		$("tail-list").replaceChildren();
		$("tail-go").textContent = "Stop";
		$("tail-pause").disabled = false;
		$("tail-pause").setAttribute("aria-pressed", "false");
		say("tail-sum", "Connecting");
		events(query({ channel, envelope: "1", last: last > 0 ? last : "" }), this.stop.signal, {
			event: (e) => this.take(e),
			lost: (why) => this.keep({ note: `${why}: coming back` }),
			end: (why) => this.end(why),
		});
	},

	end(why) {
		this.stop?.abort();
		Object.assign(this, { stop: null, held: false }); // what came last is still to be drawn
		$("tail-pause").setAttribute("aria-pressed", "false");
		$("tail-go").textContent = "Follow";
		$("tail-pause").disabled = true;
		say("tail-sum", why);
	},

	take(e) {
		if (e.type === "evstream.gap" || e.type === "end") {
			this.keep({ note: `${e.type === "end" ? "The end" : "A gap: events are lost"} ${e.data}` });
			return;
		}
		if (e.type.startsWith("evstream.")) return;
		this.total++;
		if (this.text && !e.data.toLowerCase().includes(this.text) && !e.type.toLowerCase().includes(this.text)) return;
		this.passed++;
		this.keep(e);
	},

	keep(e) {
		this.fresh.push(e);
		if (this.fresh.length > 600) this.fresh.splice(0, 300);
	},

	draw() {
		if ($("tail").hidden) return;
		const took = (Date.now() - this.since) / 1000;
		if (this.stop) say("tail-sum", `${count(this.total)} events, ${rate(this.total / Math.max(took, 1))} a second${this.text ? `; ${count(this.passed)} contain “${this.text}”` : ""}${this.held ? "; held" : ""}`);
		if (this.held || !this.fresh.length) return;
		const list = $("tail-list");
		const fresh = this.fresh.splice(0).slice(-40); // more cannot be read
		list.prepend(...fresh.reverse().map(row));
		while (list.childElementCount > 200) list.lastElementChild.remove();
	},
};

// row is an event, which is in an envelope unless it was sent to this session alone. Others
// choose its data, and may choose its id.
function row(e) {
	const time = (at) => new Date(at).toISOString().slice(11, 23);
	if (e.note) return el("li", {}, el("span", { className: "when" }, time(Date.now())), el("span", { className: "note" }, e.note));
	let inside;
	try { inside = JSON.parse(e.data); } catch { /* no envelope */ }
	if (inside?.data === undefined) inside = { data: e.data };
	const data = typeof inside.data === "string" ? inside.data : JSON.stringify(inside.data);
	const at = timeOf(e.id);
	return el("li", { title: data.slice(0, 2000) },
		el("span", { className: "when" }, at > 1e12 && at < 1e14 ? time(at) : "–"),
		el("span", { className: "ch" }, inside.ch || ""),
		el("span", { className: "type" }, inside.event || e.type),
		el("span", { className: "data" }, data.slice(0, 400)));
}
