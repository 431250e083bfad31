
// Views, keys, colours, and the credential.

const live = {
	denied: false,
	ok() {
		this.denied = false;
		$("notice").hidden = true;
		$("state").dataset.state = "live";
		if ($("state-text").textContent !== "Live") $("state-text").textContent = "Live";
	},
	failed(error) {
		this.denied = error.status === 401 || error.status === 403;
		$("state").dataset.state = "down";
		const text = this.denied ? "No access" : "Out of reach";
		if ($("state-text").textContent !== text) $("state-text").textContent = text;
		const why = error instanceof Refusal ? error.message : "The server does not answer. It is asked again each second.";
		const notice = error.status === 401 ? `${why} Enter one with the button “Credential”.` : why;
		if ($("notice").textContent !== notice) $("notice").textContent = notice;
		$("notice").hidden = false;
	},
};

const views = {
	all: { overview, channels, sessions, presence, tail, publish, value, rules },
	now: "",

	show() {
		const name = Object.hasOwn(this.all, location.hash.slice(1)) ? location.hash.slice(1) : "overview";
		if (name === this.now) return;
		this.all[this.now]?.hide?.();
		this.now = name;
		for (const section of document.querySelectorAll("main > section")) section.hidden = section.id !== name;
		for (const link of document.querySelectorAll("#tabs a")) {
			if (link.hash === `#${name}`) {
				link.setAttribute("aria-current", "page");
				link.scrollIntoView({ block: "nearest", inline: "nearest" });
			} else link.removeAttribute("aria-current");
		}
		this.all[name].show();
	},
	open(name, channel) {
		location.hash = name;
		this.show();
		this.all[name].open(channel);
		$("main").focus();
	},
};

const themes = ["auto", "light", "dark"];
const theme = {
	set(name) {
		document.documentElement.dataset.theme = name;
		localStorage.setItem("evstream.theme", name);
		$("theme").setAttribute("aria-label", `Colours: ${name === "auto" ? "as the system" : name}`);
		$("theme").textContent = { auto: "◐", light: "☀", dark: "☾" }[name];
	},
	start() {
		const kept = localStorage.getItem("evstream.theme");
		this.set(themes.includes(kept) ? kept : "auto");
		$("theme").onclick = () => this.set(themes[(themes.indexOf(document.documentElement.dataset.theme) + 1) % 3]);
	},
};

function askForCredential() {
	$("key-form").token.value = credential.get();
	$("key-dialog").showModal();
}

$("key-button").onclick = askForCredential;
$("key-dialog").addEventListener("close", () => {
	const answer = $("key-dialog").returnValue;
	if (answer === "use") credential.set($("key-form").token.value.trim());
	if (answer === "forget") credential.set("");
	if (answer === "use" || answer === "forget") location.reload();
});

document.addEventListener("keydown", (e) => {
	if (e.ctrlKey || e.metaKey || e.altKey || e.target.closest("input, textarea, select, dialog")) return;
	const names = Object.keys(views.all), at = Number(e.key) - 1;
	if (names[at]) location.hash = names[at];
	else if (e.key === "/") $(views.now).querySelector("input, textarea")?.focus();
	else if (e.key === "h") tail.hold();
	else return;
	e.preventDefault();
});
addEventListener("hashchange", () => views.show());

theme.start();
for (const view of Object.values(views.all)) view.start();
views.show();
