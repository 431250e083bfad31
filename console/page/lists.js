
// Channels, sessions and who is present.

// opener is a button that opens a view on a channel.
const opener = (text, view, channel) => el("button", { type: "button", className: "small", ariaLabel: `${text}: ${channel}`, onclick: () => views.open(view, channel) }, text);

const channelColumns = [["Channel", "name"], ["Events a second", "num"], ["Readers", "num"], ["Kept", "num"], ["Memory", "num"], ["Newest", "num"], ["State", ""], ["Open", ""]];

const channels = {
	after: "", next: "", seen: new Map(), rows: new Map(), timer: 0,

	start() {
		$("channels-form").onsubmit = (e) => { e.preventDefault(); this.after = ""; this.look(); };
		$("channels-next").onclick = () => { this.after = this.next; this.look(); };
	},
	show() { this.look(); },
	hide() { clearTimeout(this.timer); },

	async look() {
		clearTimeout(this.timer);
		try {
			const { prefix } = fields($("channels-form"));
			this.list(await askJSON(`_console/channels${query({ prefix, after: this.after, limit: "100" })}`));
			live.ok();
		} catch (error) { live.failed(error); }
		clearTimeout(this.timer);
		if (!$("channels").hidden) this.timer = setTimeout(() => this.look(), 2000);
	},

	list(doc) {
		const now = Date.parse(doc.time), seen = new Map();
		const texts = doc.channels.map((c) => {
			const was = this.seen.get(c.channel);
			seen.set(c.channel, { now, published: c.published });
			const per = was && now > was.now && c.published >= was.published ? (c.published - was.published) / (now - was.now) * 1000 : null;
			return [c.channel, per === null ? "–" : rate(per), count(c.subscribers), count(c.events), bytes(c.bytes), c.newest ? age(now - timeOf(c.newest)) : "–",
				c.closed ? "closed" : c.state ? "has a value" : ""];
		});
		this.seen = seen;
		this.next = doc.next || "";
		$("channels-next").disabled = !this.next;
		this.write(texts);
	},

	// write brings the table up to date. The row of a channel stays the same element, so that
	// a button in it keeps the focus; both lists are in the order of the names.
	write(texts) {
		const table = $("channels-table");
		if (!texts.length || !this.rows.size) {
			fill(table, channelColumns, [], "There is no such channel.");
			this.rows.clear();
		}
		if (!texts.length) return;
		table.querySelector(".empty")?.parentElement.remove();
		const names = new Set(texts.map(([name]) => name));
		for (const [name, row] of this.rows) {
			if (names.has(name)) continue;
			row.remove();
			this.rows.delete(name);
		}
		let at = table.rows[1] ?? null; // after the head
		for (const cells of texts) {
			const [name] = cells, row = this.rows.get(name) ?? this.row(name);
			cells.forEach((text, i) => set(row.cells[i], text));
			if (row === at) at = at.nextElementSibling;
			else at ? at.before(row) : table.append(row);
		}
	},

	row(name) {
		const row = el("tr", {}, ...channelColumns.map(([, type], i) => el("td", { className: type }, i < channelColumns.length - 1 ? "" :
			el("span", {}, opener("Tail", "tail", name), opener("Publish", "publish", name), opener("Value", "value", name)))));
		this.rows.set(name, row);
		return row;
	},
};

const sessions = {
	after: "", next: "",

	start() {
		$("sessions-form").onsubmit = (e) => { e.preventDefault(); this.after = ""; this.look(); };
		$("sessions-next").onclick = () => { this.after = this.next; this.look(); };
	},
	show() { this.look(); },

	async look() {
		try {
			const { user, channel } = fields($("sessions-form"));
			const doc = await askJSON(`_sessions${query({ user, channel, after: this.after, limit: "100" })}`);
			const rows = doc.sessions.map((s) => [s.session, s.user || (s.bearer ? `bearer ${s.bearer}` : "–"), s.address, s.protocol || "", age(Date.now() - Date.parse(s.since)),
				s.channels.slice(0, 3).join(", ") + (s.channels.length > 3 ? ` and ${s.channels.length - 3} more` : ""), count(s.events), `${count(s.lag)} ms`,
				el("button", { type: "button", className: "small", ariaLabel: `End ${s.session}`, onclick: () => this.end(s) }, "End")]);
			this.next = doc.next || "";
			$("sessions-next").disabled = !this.next;
			fill($("sessions-table"), [["Session", "name"], ["User", ""], ["Address", ""], ["Protocol", ""], ["For", "num"], ["Channels", "name"], ["Events", "num"], ["Behind", "num"], ["Action", ""]], rows, "There is no such session.");
			say("sessions-sum", "");
		} catch (error) { this.failed(error); }
	},

	async end(s) {
		if (!await sure(`Session ${s.session}${s.user ? ` of ${s.user}` : ""} is ended, and its client does not come back.`, "End it")) return;
		try {
			await ask(`_sessions/${encodeURIComponent(s.session)}`, { method: "DELETE" });
			this.look();
		} catch (error) { this.failed(error); }
	},

	// failed says so here: the overview, which may be allowed, tells that all is well.
	failed(error) { say("sessions-sum", error.message, false); },
};

const presence = {
	start() { $("presence-form").onsubmit = (e) => { e.preventDefault(); this.look(); }; },
	show() {},

	async look() {
		try {
			const { channel } = fields($("presence-form"));
			const doc = await askJSON(`_presence/${pathOf(channel)}?limit=100`);
			say("presence-sum", `${count(doc.count)} present${doc.anonymous ? `, ${count(doc.anonymous)} of them without a user` : ""}`);
			const rows = (doc.members || []).map((m) => [m.user, count(m.sessions), age(Date.now() - Date.parse(m.since)), m.meta ? JSON.stringify(m.meta) : ""]);
			fill($("presence-table"), [["User", "name"], ["Streams", "num"], ["For", "num"], ["Metadata", "name"]], rows, doc.count ? "Too many to be told by name." : "Nobody with a name is here.");
			live.ok();
		} catch (error) {
			$("presence-table").replaceChildren();
			say("presence-sum", error.message, false);
		}
	},
};
