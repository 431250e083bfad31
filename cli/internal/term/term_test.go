package term

import (
	"bytes"
	"os"
	"strings"
	"testing"
)

func TestTextOfOthersControlsNoTerminal(t *testing.T) {
	for text, want := range map[string]string{
		"plain, ä, 日本": "plain, ä, 日本", "a\nb\tc": "a\nb\tc",
		"\x1b[2Jgone": `\x1b[2Jgone`, "\r": `\x0d`, "\u009b2J": `\u009b2J`, "\x00\x7f": `\x00\x7f`,
		"a\u202eb": `a\u202eb`, "\xff": `\xff`, "\u2028": `\u2028`,
	} {
		if got := Clean(text); got != want {
			t.Errorf("%q: %q, want %q", text, got, want)
		}
	}
	if got := Line("a\n\tb\x1b"); got != `a\n\tb\x1b` {
		t.Errorf("%q", got)
	}
}

func TestColourIsForTerminals(t *testing.T) {
	if got := Paint(new(bytes.Buffer)).In(Red, "x"); got != "x" {
		t.Errorf("a buffer gets %q", got)
	}
	p := Painter{on: true}
	if got := p.In(Red, "x") + p.In(Plain, "y") + p.In(Red, ""); got != "\x1b[31mx\x1b[0my" {
		t.Errorf("%q", got)
	}
	file, err := os.CreateTemp(t.TempDir(), "")
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	if IsTerminal(file) || IsTerminal(strings.NewReader("")) {
		t.Error("a file is taken for a terminal")
	}
	device, err := os.OpenFile(os.DevNull, os.O_WRONLY, 0) // a character device, as a terminal is
	if err != nil {
		t.Fatal(err)
	}
	defer device.Close()
	for name, on := range map[string]bool{"": true, "1": false} {
		t.Setenv("NO_COLOR", name)
		t.Setenv("TERM", "xterm")
		if Paint(device).on != on {
			t.Errorf("NO_COLOR=%q: %t", name, !on)
		}
	}
	t.Setenv("NO_COLOR", "")
	t.Setenv("TERM", "dumb")
	if Paint(device).on {
		t.Error("a dumb terminal gets colour")
	}
}

func TestTablesAndJSON(t *testing.T) {
	var b bytes.Buffer
	table := NewTable(&b, "NAME", "N")
	table.Row("a\nb", "")
	table.Row("longer name", "12")
	if err := table.Flush(); err != nil {
		t.Fatal(err)
	}
	if err := JSON(&b, map[string]string{"a": "<&>"}); err != nil {
		t.Fatal(err)
	}
	want := "NAME         N\n" + `a\nb         -` + "\nlonger name  12\n" + `{"a":"<&>"}` + "\n"
	if b.String() != want {
		t.Errorf("got\n%s", b.String())
	}
}
