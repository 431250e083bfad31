
// Publishing, values, and which rule decides.

const publish = {
	start() {
		$("publish-form").onsubmit = async (e) => {
			e.preventDefault();
			const { channel, event, data } = fields($("publish-form"));
			try {
				const answer = await ask(`${pathOf(channel)}${query({ event })}`, { method: "POST", body: data, headers: { "Content-Type": "text/plain" } });
				const { id } = await answer.json();
				say("publish-sum", `Published as ${id}`, true);
			} catch (error) { say("publish-sum", error.message, false); }
		};
	},
	show() {},
	open(channel) {
		$("publish-form").channel.value = channel;
		$("publish-form").data.focus();
	},
};

const value = {
	channel: "", version: "", was: "", timer: 0,

	start() {
		$("value-form").onsubmit = (e) => { e.preventDefault(); this.read(fields($("value-form")).channel); };
		$("value-edit").text.oninput = () => { clearTimeout(this.timer); this.timer = setTimeout(() => this.compare(), 150); };
		$("value-edit").onsubmit = (e) => { e.preventDefault(); this.save(); };
		$("value-remove").onclick = () => this.remove();
	},
	show() {},
	open(channel) {
		$("value-form").channel.value = channel;
		this.read(channel);
	},

	async read(channel) {
		try {
			const answer = await ask(pathOf(channel), { headers: { Accept: "application/json" }, plain: [404] });
			const text = await answer.text(), doc = JSON.parse(text);
			if (answer.status === 404 && doc.type !== "urn:evstream:problem:no-state") throw new Refusal(404, doc);
			this.set(channel, answer.headers.get("ETag") || "", answer.status === 404 ? "" : pretty(text));
			say("value-sum", answer.status === 404 ? "It has no value: what you save is its first." : `Version ${this.version.replaceAll('"', "")}`);
		} catch (error) {
			this.set("", "", ""); // not that of another channel
			$("value-edit").text.disabled = true;
			say("value-sum", error.message, false);
		}
	},

	set(channel, version, text) {
		Object.assign(this, { channel, version, was: text });
		const area = $("value-edit").text;
		area.disabled = false;
		area.value = text;
		$("value-remove").disabled = !version;
		this.compare();
	},

	compare() {
		let text = $("value-edit").text.value, bad = "";
		try { JSON.parse(text); text = pretty(text); } catch (error) { bad = error.message; }
		$("value-save").disabled = Boolean(bad) || text === this.was;
		const lines = bad ? [] : diff(this.was ? this.was.split("\n") : [], text.split("\n"));
		$("value-diff").replaceChildren(...lines.map(([kind, line]) => kind === " " ? `  ${line}\n` : el(kind === "+" ? "ins" : "del", {}, `${kind} ${line}`)));
		if (bad) $("value-diff").textContent = $("value-edit").text.value ? `Not JSON yet: ${bad}` : "Nothing to save.";
		else if (text === this.was) $("value-diff").textContent = "Nothing has changed.";
	},

	async save() {
		try {
			const headers = { "Content-Type": "application/json", ...(this.version ? { "If-Match": this.version } : { "If-None-Match": "*" }) };
			const text = $("value-edit").text.value;
			const answer = await ask(pathOf(this.channel), { method: "PUT", headers, body: text });
			this.set(this.channel, answer.headers.get("ETag") || "", pretty(text));
			say("value-sum", `Saved as version ${this.version.replaceAll('"', "")}`, true);
		} catch (error) {
			say("value-sum", error.status === 412 ? "Somebody else has changed it meanwhile: read it again, then change it." : error.message, false);
		}
	},

	async remove() {
		if (!await sure(`The value of ${this.channel} is removed.`, "Remove it")) return;
		try {
			await ask(pathOf(this.channel), { method: "DELETE", headers: { "If-Match": this.version } });
			this.set(this.channel, "", "");
			say("value-sum", "Removed.", true);
		} catch (error) { say("value-sum", error.message, false); }
	},
};

// pretty lays out text that is JSON. It does not read it: JavaScript's numbers do not have
// the digits that those of a value may have.
function pretty(text) {
	let out = "", depth = 0, was = "";
	const line = () => `\n${"  ".repeat(depth)}`;
	for (const [token] of text.matchAll(/"[^"\\]*(?:\\.[^"\\]*)*"|[{}[\],:]|[^\s{}[\],:"]+/g)) {
		if (token === "}" || token === "]") {
			depth--;
			if (was !== "{" && was !== "[") out += line();
		} else if (was === "{" || was === "[" || was === ",") out += line();
		if (token === "{" || token === "[") depth++;
		out += token === ":" ? ": " : token;
		was = token;
	}
	return out;
}

// diff lists the lines of both, each with " ", "-" or "+": the longest common subsequence, or
// where that takes too long all of one and all of the other.
function diff(a, b) {
	if (a.length * b.length > 4e6) return [...a.map((l) => ["-", l]), ...b.map((l) => ["+", l])];
	const wide = b.length + 1, long = new Uint32Array((a.length + 1) * wide);
	for (let i = a.length - 1; i >= 0; i--) {
		for (let j = b.length - 1; j >= 0; j--) {
			long[i * wide + j] = a[i] === b[j] ? long[(i + 1) * wide + j + 1] + 1 : Math.max(long[(i + 1) * wide + j], long[i * wide + j + 1]);
		}
	}
	const out = [];
	let i = 0, j = 0;
	while (i < a.length || j < b.length) {
		if (i < a.length && j < b.length && a[i] === b[j]) { out.push([" ", a[i]]); i++; j++; }
		else if (j === b.length || i < a.length && long[(i + 1) * wide + j] >= long[i * wide + j + 1]) out.push(["-", a[i++]]);
		else out.push(["+", b[j++]]);
	}
	return out;
}

const rules = {
	start() {
		$("rules-form").onsubmit = async (e) => {
			e.preventDefault();
			try {
				const x = await askJSON(`_console/explain${query(fields($("rules-form")))}`);
				say("rules-sum", x.allowed ? `Allowed by ${x.by}` : "Not allowed: no rule allows it", x.allowed);
				$("rules-text").textContent = x.text;
				$("rules-text").hidden = false;
			} catch (error) {
				$("rules-text").hidden = true;
				say("rules-sum", error.message, false);
			}
		};
	},
	show() {},
};
