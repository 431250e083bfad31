
// The live tail of a channel or a pattern. Of what comes in a quarter of a second the newest
// is parsed and shown, in rows that are used again and again: thousands of events a second
// cost no more than that. The page says how many it does not show.

const atOnce = 20, mostRows = 200;

// What the hub says itself, and what has data.
const ofTheHub = /^(event: ?evstream\.|id: ?evstream\.end$)/m, hasData = /^data/m;

const tail = {
	fresh: [], total: 0, passed: 0, skipped: 0, held: false, stop: null, text: "", drawing: 0,
	rate: { at: 0, total: 0, now: 0 }, // of the last second

	start() {
		$("tail-form").onsubmit = (e) => { e.preventDefault(); this.stop ? this.end("Stopped.") : this.follow(); };
		$("tail-form").filter.oninput = (e) => { this.text = e.target.value.toLowerCase(); };
		$("tail-pause").onclick = () => this.hold();
		setInterval(() => {
			const at = performance.now();
			this.rate = { at, total: this.total, now: (this.total - this.rate.total) / (at - this.rate.at) * 1000 };
			this.count();
		}, 1000);
	},
	show() { this.plan(); },
	open(channel) {
		this.end("");
		$("tail-form").channel.value = channel;
		this.follow();
	},
	hold() {
		if (!this.stop) return;
		this.held = !this.held;
		$("tail-pause").setAttribute("aria-pressed", String(this.held));
		this.count();
		this.plan();
	},

	follow() {
		const { channel, last } = fields($("tail-form"));
		Object.assign(this, { fresh: [], total: 0, passed: 0, skipped: 0, held: false, stop: new AbortController(), rate: { at: performance.now(), total: 0, now: 0 } });
		$("tail-list").replaceChildren();
		$("tail-go").textContent = "Stop";
		$("tail-pause").disabled = false;
		$("tail-pause").setAttribute("aria-pressed", "false");
		$("tail-count").textContent = "";
		say("tail-sum", "Connecting");
		events(query({ channel, envelope: "1", last: last > 0 ? last : "" }), this.stop.signal, {
			open: () => say("tail-sum", "Following"),
			blocks: (list) => this.take(list),
			lost: (why) => { this.keep({ note: `${why}: coming back` }); say("tail-sum", "Coming back"); },
			end: (why) => this.end(why),
		});
	},

	end(why) {
		this.stop?.abort();
		this.count();
		Object.assign(this, { stop: null, held: false });
		this.plan(); // what came last is still to be drawn
		$("tail-pause").setAttribute("aria-pressed", "false");
		$("tail-go").textContent = "Follow";
		$("tail-pause").disabled = true;
		say("tail-sum", why);
	},

	// take takes in the texts of events. A filter has to look into each, else only those that
	// are shown are parsed.
	take(blocks) {
		for (const block of blocks) {
			if (!hasData.test(block)) continue; // a heartbeat
			if (ofTheHub.test(block)) {
				const e = parse(block);
				if (e.id === "evstream.end") this.keep({ note: `The end ${e.data}` });
				else if (e.type === "evstream.gap") this.keep({ note: `A gap: events are lost ${e.data}` });
				continue;
			}
			this.total++;
			if (this.text) {
				const e = parse(block);
				if (!e.data.toLowerCase().includes(this.text) && !e.type.toLowerCase().includes(this.text)) continue;
				this.passed++;
			}
			this.keep({ block });
		}
	},

	// keep has something shown, unless too much that is newer comes. Notes are the last to go.
	keep(item) {
		this.fresh.push(item);
		if (this.fresh.length > atOnce) {
			const oldest = this.fresh.findIndex((of) => of.block);
			if (this.fresh.splice(Math.max(oldest, 0), 1)[0].block) this.skipped++;
		}
		this.plan();
	},

	plan() {
		this.drawing ||= setTimeout(() => requestAnimationFrame(() => this.draw()), 250);
	},

	draw() {
		this.drawing = 0;
		if (this.held || $("tail").hidden) return;
		const list = $("tail-list");
		for (const item of this.fresh.splice(0)) {
			const row = list.childElementCount < mostRows ? emptyRow() : list.lastElementChild;
			write(row, item.note ? item : parse(item.block));
			list.prepend(row);
		}
	},

	count() {
		if (!this.stop || $("tail").hidden) return;
		const text = [`${rate(this.rate.now)} a second`, `${count(this.total)} events`];
		if (this.text) text.push(`${count(this.passed)} contain “${this.text}”`);
		if (this.skipped) text.push(`${count(this.skipped)} not shown: too many at once`);
		if (this.held) text.push("held");
		$("tail-count").textContent = text.join("; ");
	},
};

const emptyRow = () => el("li", {}, ...["when", "ch", "type", "data"].map((of) => el("span", { className: of }, "")));

// write writes an event into a row. It is in an envelope unless it was sent to this session
// alone. Others choose its data, and may choose its id.
function write(row, e) {
	const [when, channel, type, data] = Array.from(row.children, (cell) => cell.firstChild);
	const time = (at) => new Date(at).toISOString().slice(11, 23);
	row.className = e.note ? "note" : "";
	if (e.note) {
		[when.data, channel.data, type.data, data.data, row.title] = [time(Date.now()), "", "", e.note, e.note];
		return;
	}
	let inside;
	try { inside = JSON.parse(e.data); } catch { /* no envelope */ }
	if (inside?.data === undefined) inside = { data: e.data };
	const text = typeof inside.data === "string" ? inside.data : JSON.stringify(inside.data);
	const at = timeOf(e.id);
	when.data = at > 1e12 && at < 1e14 ? time(at) : "–";
	channel.data = inside.ch || "";
	type.data = inside.event || e.type;
	data.data = text.slice(0, 400);
	row.title = text.slice(0, 2000);
}
