package scoreboard

import (
	"strings"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/caddyserver/caddy/v2/caddyconfig/httpcaddyfile"
)

func TestTheOptionBecomesAnApp(t *testing.T) {
	for _, row := range []struct{ name, text, want string }{
		{"bare", "scoreboard", `{}`},
		{"an empty block", "scoreboard {\n}", `{}`},
		{"everything", "scoreboard {\n admin 127.0.0.1:2020\n pace 250ms\n}", `{"admin":"127.0.0.1:2020","pace":250000000}`},
	} {
		t.Run(row.name, func(t *testing.T) {
			value, err := parseOption(caddyfile.NewTestDispenser(row.text), nil)
			if err != nil {
				t.Fatal(err)
			}
			app, ok := value.(httpcaddyfile.App)
			if !ok || app.Name != "scoreboard" || string(app.Value) != row.want {
				t.Errorf("%+v, want the app scoreboard with %s", value, row.want)
			}
		})
	}
}

func TestTheOptionRefusesWhatItDoesNotKnow(t *testing.T) {
	for _, row := range []struct{ name, text, want string }{
		{"an argument", "scoreboard fast", "wrong argument count"},
		{"an unknown option", "scoreboard {\n speed 2\n}", `unknown option "speed": scoreboard has admin and pace`},
		{"a pace that is none", "scoreboard {\n pace quick\n}", "pace: "},
		{"no pace at all", "scoreboard {\n pace 0s\n}", "pace 0s is below 10ms"},
		{"pace twice", "scoreboard {\n pace 1s\n pace 2s\n}", "pace is given twice"},
		{"admin without an address", "scoreboard {\n admin\n}", "wrong argument count"},
		{"admin twice", "scoreboard {\n admin a:1\n admin b:1\n}", "admin is given twice"},
	} {
		t.Run(row.name, func(t *testing.T) {
			_, err := parseOption(caddyfile.NewTestDispenser(row.text), nil)
			if err == nil || !strings.Contains(err.Error(), row.want) {
				t.Errorf("error %v, want %q", err, row.want)
			}
		})
	}
	if _, err := parseOption(caddyfile.NewTestDispenser("scoreboard"), new(App)); err == nil {
		t.Error("a second option is accepted")
	}
}

func TestValidateRefusesWhatCannotBePlayed(t *testing.T) {
	for _, row := range []struct {
		name, admin string
		pace        time.Duration
		want        string
	}{
		{"the defaults", defaultAdmin, defaultPace, ""},
		{"no port", "localhost", defaultPace, `admin "localhost" is not host:port`},
		{"too fast", defaultAdmin, time.Millisecond, "pace 1ms is below 10ms"},
		{"backwards", defaultAdmin, -time.Second, "pace -1s is below 10ms"},
	} {
		t.Run(row.name, func(t *testing.T) {
			err := (&App{Admin: row.admin, Pace: caddy.Duration(row.pace)}).Validate()
			if row.want == "" && err != nil || row.want != "" && (err == nil || !strings.Contains(err.Error(), row.want)) {
				t.Errorf("error %v, want %q", err, row.want)
			}
		})
	}
}
