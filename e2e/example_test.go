package e2e

import (
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
)

// example is the Caddyfile of the example, at free addresses.
func example(t *testing.T) string {
	t.Helper()
	b, err := os.ReadFile("../examples/Caddyfile")
	if err != nil {
		t.Fatal(err)
	}
	text := string(b)
	for _, change := range [][2]string{
		{"\nhttp://localhost:8080 {", "\nhttp://{{plain}} {"},
		{"\n{\n", "\n{\n\tadmin {{admin}}\n\tpersist_config off\n"},
		{"\n\tscoreboard\n", "\n\tscoreboard {\n\t\tadmin {{admin}}\n\t}\n"},
	} {
		if strings.Count(text, change[0]) != 1 {
			t.Fatalf("examples/Caddyfile has not one %q", change[0])
		}
		text = strings.Replace(text, change[0], change[1], 1)
	}
	return text
}

// cards counts the matches on the page that have a score.
const cards = `document.querySelectorAll(".card:not(.blank) .score").length`

func TestTheExampleIsAliveOnceTheServerIs(t *testing.T) {
	warm := newPage(t, "about:blank") // the start of Chromium does not count
	s := start(t, example(t))
	served := time.Now()
	do(t, warm, chromedp.EmulateViewport(1440, 900))
	do(t, warm, chromedp.Navigate("http://"+s.plain))
	eventually(t, "all five matches are on the page", func() bool {
		return eval[int](t, warm, `document.querySelectorAll(".card:not(.blank)").length`) == 5
	})
	t.Logf("the page was alive %s after the server, %s after the process", time.Since(served), time.Since(s.begun))
	if state := eval[string](t, warm, `document.getElementById("strip").dataset.state`); state != "live" {
		t.Errorf("the connection is %s", state)
	}
	received := eval[string](t, warm, `document.getElementById("fact-received").textContent`)
	eventually(t, "the matches go on", func() bool {
		return eval[string](t, warm, `document.getElementById("fact-received").textContent`) != received
	})

	if said := eval[string](t, warm, `document.querySelector("header").innerText`); !strings.Contains(said, "evstream for Caddy") || !strings.Contains(said, "nothing is lost") {
		t.Errorf("the page says of itself %q", said)
	}

	for _, width := range []int64{1440, 390} {
		do(t, warm, chromedp.EmulateViewport(width, 900))
		type extent struct{ Content, Window int64 }
		var e extent
		eventually(t, "the page has its width", func() bool {
			e = eval[extent](t, warm, `({Content: document.documentElement.scrollWidth, Window: innerWidth})`)
			return e.Window == width
		})
		if e.Content > e.Window {
			t.Errorf("at %d px the page is %d px wide", width, e.Content)
		}

		// From its first moment on nothing moves, and the buttons are in view, however
		// far the page is scrolled.
		do(t, warm, chromedp.Navigate("http://"+s.plain))
		eval[bool](t, warm, `window.shifts = 0, new PerformanceObserver((list) => list.getEntries().forEach((e) => (shifts += e.value)))
			.observe({type: "layout-shift", buffered: true}), true`)
		eventually(t, "all five matches are on the page", func() bool {
			return eval[int](t, warm, `document.querySelectorAll(".card:not(.blank)").length`) == 5
		})
		eventually(t, "a live event is on the page", func() bool {
			return eval[bool](t, warm, `performance.now() > 1500 && document.querySelectorAll("#feed li").length > 0`)
		})
		if shift := eval[float64](t, warm, "shifts"); shift > 0.05 {
			t.Errorf("at %d px the layout shifts by %.3f", width, shift)
		}
		const inView = `(() => {
			scrollTo({top: 2000, behavior: "instant"});
			return ["cut-button", "goal", "strip-word"].every((id) => {
				const box = document.getElementById(id).getBoundingClientRect();
				return box.width > 0 && box.top >= 0 && box.bottom <= innerHeight;
			});
		})()`
		if !eval[bool](t, warm, inView) {
			t.Errorf("at %d px the buttons are not in view", width)
		}
	}

	// A goal by the button, whose answer is told where the button is.
	eval[bool](t, warm, `shifts = 0, scrollTo({top: 0, behavior: "instant"}), document.getElementById("goal").click(), true`)
	eventually(t, "the goal is back on the stream", func() bool {
		return strings.HasPrefix(eval[string](t, warm, `document.getElementById("strip-result").textContent`), "Back after ")
	})
	// What the strip says of it takes the place of the figures, and moves nothing.
	const drawn = `new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(() => setTimeout(() => done(shifts)))))`
	if shift := await[float64](t, warm, drawn); shift > 0.02 {
		t.Errorf("with the goal the layout shifts by %.3f", shift)
	}
	if lost := eval[string](t, warm, `document.getElementById("fact-lost").textContent`); lost != "0" {
		t.Errorf("%s events were lost", lost)
	}

	s.terminate()
	eventually(t, "the page says that the server is gone", func() bool {
		return eval[string](t, warm, `document.getElementById("strip-word").textContent`) == "Server gone"
	})
}

func TestTheExamplePublishesAndCatchesUp(t *testing.T) {
	t.Parallel()
	s := start(t, example(t))
	tab := newPage(t, "http://"+s.plain)
	content := func(id string) string {
		return eval[string](t, tab, fmt.Sprintf("document.getElementById(%q).textContent", id))
	}
	state := func() string { return eval[string](t, tab, `document.getElementById("strip").dataset.state`) }
	eventually(t, "the page is live", func() bool { return state() == "live" })
	eventually(t, "there is a match", func() bool { return eval[int](t, tab, cards) > 0 })

	// The form publishes, and the event comes back on the stream.
	eval[bool](t, tab, `(() => {
		const set = (id, value) => {
			const field = document.getElementById(id);
			field.value = value;
			field.dispatchEvent(new Event("input", {bubbles: true}));
		};
		set("publish-channel", "football/arsenal-vs-chelsea");
		set("publish-type", "score_update");
		set("publish-data", JSON.stringify({text: "a goal of the test"}));
		document.getElementById("publish").requestSubmit();
		return true;
	})()`)
	eventually(t, "the event is on the page", func() bool {
		return strings.Contains(content("feed"), "a goal of the test") &&
			!eval[bool](t, tab, `document.getElementById("answer-echo").hidden`)
	})
	if head := content("answer-head"); !strings.HasPrefix(head, "200 ") {
		t.Errorf("the answer is %q", head)
	}

	// The connection is cut, and an event published meanwhile. The matches go on, so
	// that it is one of several that were missed.
	const late = `[...document.querySelectorAll("#feed li[data-late]")].some(li => li.textContent.includes("a goal while away"))`
	eval[bool](t, tab, `(() => {
		document.getElementById("cut-seconds").value = "3";
		document.getElementById("cut").requestSubmit();
		return true;
	})()`)
	eventually(t, "the connection is cut", func() bool { return state() == "cut" })
	p := &publisher{client: plainClient(t), base: "http://" + s.admin + "/evstream"}
	if err := p.post("football/arsenal-vs-chelsea?event=score_update", `{"text":"a goal while away"}`); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the page is live again", func() bool { return state() == "live" })
	eventually(t, "what was missed is told", func() bool {
		return strings.Contains(content("caught-text"), "missed and caught up") && eval[bool](t, tab, late)
	})
	if twice, lost := content("fact-duplicates"), content("fact-lost"); twice != "0" || lost != "0" {
		t.Errorf("twice: %s, lost: %s", twice, lost)
	}
	if n := strings.Count(content("feed"), "a goal while away"); n != 1 {
		t.Errorf("the missed event is on the page %d times", n)
	}
	if !eval[bool](t, tab, `document.getElementById("gap").hidden`) {
		t.Errorf("a gap: %s", content("gap-text"))
	}
}
