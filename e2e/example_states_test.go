package e2e

import (
	"math"
	"strings"
	"testing"

	"github.com/chromedp/chromedp"
)

// sight measures what is on the page as one sees it. Colours are resolved by
// painting them.
const sight = `(() => {
	const paint = document.createElement("canvas").getContext("2d", {willReadFrequently: true});
	const rgb = (colour) => {
		paint.clearRect(0, 0, 1, 1);
		paint.fillStyle = colour;
		paint.fillRect(0, 0, 1, 1);
		return [...paint.getImageData(0, 0, 1, 1).data].slice(0, 3);
	};
	const light = (colour) => {
		const [r, g, b] = rgb(colour).map((c) => (c /= 255) <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4);
		return 0.2126 * r + 0.7152 * g + 0.0722 * b;
	};
	window.legible = (node, ground) => {
		const style = getComputedStyle(node);
		const [a, b] = [light(style.color), light(getComputedStyle(ground).backgroundColor)];
		return {
			Text: node.textContent, Size: parseFloat(style.fontSize), Whole: node.scrollWidth <= node.clientWidth + 1,
			Contrast: (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05),
		};
	};
	window.card = (channel) => document.querySelector('.card [title="' + channel + '"]')?.closest(".card");
	window.shares = (channel) => [...card(channel).querySelectorAll(".share")].map((share) =>
		[...share.children].map((bar) => ({
			Width: Math.round(bar.getBoundingClientRect().width),
			Team: rgb(getComputedStyle(bar).backgroundColor).join() !== rgb(getComputedStyle(document.body).getPropertyValue("--line")).join(),
		})));
	window.flashed = [];
	const animate = Element.prototype.animate;
	Element.prototype.animate = function (frames, options) {
		if (frames.some((frame) => "outlineColor" in frame)) flashed.push(this.querySelector(".card-channel")?.textContent);
		return animate.call(this, frames, options);
	};
	return true;
})()`

// TestTheExampleSaysWhatThereIs plays no matches, so that the page has to say that
// there are none, and then only what the test publishes.
func TestTheExampleSaysWhatThereIs(t *testing.T) {
	t.Parallel()
	s := start(t, strings.Replace(example(t), "\n\tscoreboard {\n\t\tadmin {{admin}}\n\t}\n", "\n", 1))
	tab := newPage(t, "http://"+s.plain)
	counts := func(want string) func() bool {
		return func() bool {
			return eval[string](t, tab, `[...document.querySelectorAll(".sport small")].map((e) => e.innerText).join("|")`) == want+"|"+want
		}
	}
	word := func(want string) func() bool {
		return func() bool {
			return eval[string](t, tab, `document.getElementById("strip-word").innerText`) == want
		}
	}
	eventually(t, "the page says that no match is played", counts("No match is being played: publish one below"))
	s.kill()
	eventually(t, "the page says that the server is gone", word("Server gone"))
	eventually(t, "the page says why there is no match", counts("No match to show: the server does not answer"))
	s.restart()
	eventually(t, "the page is live again", word("Live"))
	if said := eval[string](t, tab, `document.getElementById("strip-says").innerText`); !strings.HasPrefix(said, "Events 0") ||
		!strings.Contains(said, "Duplicates 0") || !strings.HasSuffix(strings.TrimSpace(said), "Lost 0") {
		t.Errorf("the strip says %q", said)
	}

	eval[bool](t, tab, sight)
	p := &publisher{client: plainClient(t), base: "http://" + s.admin + "/evstream"}
	const short, long = "football/a-vs-b", "football/wolverhampton-wanderers-vs-brighton"
	for channel, match := range map[string]string{short: "A vs B", long: "Wolverhampton Wanderers Football Club vs Brighton and Hove Albion Football Club"} {
		if err := p.post(channel+"?event=snapshot", `{"match":"`+match+`","round":1,"step":1,"minute":1,"possession":[0,0],"shots":[0,0],"corners":[3,1]}`); err != nil {
			t.Fatal(err)
		}
	}
	eventually(t, "both matches are on the page", func() bool { return eval[int](t, tab, `document.querySelectorAll(".card:not(.blank)").length`) == 2 })

	// What nobody has done is no half of anything; 3 to 1 are three quarters.
	type bar struct {
		Width int
		Team  bool
	}
	eventually(t, "the statistics are drawn", func() bool {
		bars := eval[[][]bar](t, tab, `shares("`+short+`")`)
		return len(bars) == 3 && bars[2][1].Width > 10 && math.Abs(float64(bars[2][0].Width-3*bars[2][1].Width)) <= 4 && bars[2][0].Team
	})
	for _, bars := range eval[[][]bar](t, tab, `shares("`+short+`")`)[:2] {
		if bars[0].Team || bars[1].Team || bars[1].Width != 0 {
			t.Errorf("0–0 is drawn as %+v", bars)
		}
	}

	// A name that wraps moves nothing out of its row.
	rows := eval[[]int](t, tab, `[...document.querySelectorAll(".card .line, .card .stats")].map((e) => e.offsetTop)`)
	if len(rows) != 4 || rows[0] != rows[2] || rows[1] != rows[3] {
		t.Errorf("the rows of two cards are at %v", rows)
	}
	if tall := eval[float64](t, tab, `Math.max(...[...card("`+long+`").querySelectorAll(".side b")].map((b) => b.scrollHeight / parseFloat(getComputedStyle(b).lineHeight)))`); tall < 1.5 {
		t.Errorf("no name wraps: %.1f lines", tall)
	}

	// Channel names are the lesson: they can be read, on a phone, too.
	type legible struct {
		Text           string
		Size, Contrast float64
		Whole          bool
	}
	for _, width := range []int64{1440, 390} {
		do(t, tab, chromedp.EmulateViewport(width, 900))
		names := eval[[]legible](t, tab, `[...document.querySelectorAll(".card-channel")].map((e) => legible(e, e.closest(".card")))
			.concat([...document.querySelectorAll("#feed .where > :first-child")].map((e) => legible(e, e.closest(".panel"))))`)
		if len(names) < 3 {
			t.Errorf("at %d px the page names %v", width, names)
		}
		for _, name := range names {
			if name.Size < 12 || name.Contrast < 4.5 || name.Text == short && !name.Whole {
				t.Errorf("at %d px a channel's name is hard to read: %+v", width, name)
			}
		}
	}
	do(t, tab, chromedp.EmulateViewport(1440, 900))

	// The answer is told beside the button, and the card shows where it went.
	publish := func(channel string) {
		eval[bool](t, tab, `(() => {
			const set = (id, value) => (document.getElementById(id).value = value);
			set("publish-channel", "`+channel+`");
			set("publish-type", "score_update");
			set("publish-data", '{"round": 1, "step": 5, "homeScore": 1}');
			document.getElementById("publish").requestSubmit();
			return true;
		})()`)
	}
	answered := func(kind string) func() bool {
		return func() bool {
			return eval[bool](t, tab, `(() => {
				const answer = document.getElementById("answer").getBoundingClientRect();
				const button = document.getElementById("publish-button").getBoundingClientRect();
				return document.getElementById("answer").dataset.kind === "`+kind+`" && answer.width > 100 &&
					answer.top < button.bottom && answer.bottom > button.top && Math.abs(button.left - answer.right) < 40;
			})()`)
		}
	}
	publish(short)
	eventually(t, "the answer is beside the button", answered("good"))
	eventually(t, "the card flashes", func() bool { return eval[string](t, tab, `flashed.join()`) == short })
	publish("hockey/a-vs-b")
	eventually(t, "the refusal is beside the button", answered("bad"))

	// Step 5 came after step 1; an id that is not above the last one is a duplicate.
	eventually(t, "what is lost is counted", func() bool {
		return eval[string](t, tab, `document.getElementById("fact-lost").innerText`) == "3"
	})
	if twice := await[int](t, tab, `import("/js/ledger.js").then(({Ledger}) => {
		const ledger = new Ledger();
		for (const id of ["5-1", "5-2", "5-2", "7-0", "6-9", "own"]) ledger.order(id);
		return ledger.duplicates;
	})`); twice != 2 {
		t.Errorf("%d duplicates are counted of 2", twice)
	}
}
