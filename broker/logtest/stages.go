package logtest

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/evstream/caddy-evstream/broker"
)

var stageTests = map[string]func(*testing.T, Harness){
	"what is refused leaves the later stages undecided": testStages,
	"a stage holds up none of another append":           testStagesAlone,
}

// staged is one operation for each word: its first byte is the stage, the second what it
// does, and the third the channel, whose name begins with that of a test.
func staged(test, words string) []broker.Op {
	var ops []broker.Op
	for word := range strings.FieldsSeq(words) {
		channel := test + word[2:]
		op := event(channel, word)
		switch word[1] {
		case 'c':
			op = closing(channel, "")
		case 'k', 'K': // with the key of its channel
			op = keyed(event(channel, word[1:2]), "a", channel)
		case 's':
			op = setting(channel, "1")
		case 'a': // only where there is none
			op = setting(channel, "2")
			op.State.If.Kind = broker.IfAbsent
		}
		op.Stage = int(word[0] - '0')
		ops = append(ops, op)
	}
	return ops
}

func setting(channel, value string) broker.Op {
	return broker.Op{Kind: broker.KindState, Channel: channel, State: &broker.StateOp{Value: []byte(value)}}
}

// words says what became of operations: stored, repeated, refused or undecided.
func words(results []broker.Result) string {
	said := make([]string, len(results))
	for i, r := range results {
		switch {
		case errors.Is(r.Err, broker.ErrNotReached):
			said[i] = "-"
		case r.Err != nil:
			said[i] = "no"
		case r.Repeated:
			said[i] = "again"
		default:
			said[i] = "yes"
		}
	}
	return strings.Join(said, " ")
}

func testStages(t *testing.T, h Harness) {
	log := open(t, h)
	f := follow(t, log)
	for i, tt := range []struct{ name, before, ops, want string }{
		{"nothing is refused", "", "0ea 1eb 2ec", "yes yes yes"},
		{"no stages", "0ca", "0eb 0ea 0ec", "yes no yes"},
		{"a closed channel", "0ca", "0eb 1ea 2ec 3ed", "yes no - -"},
		{"closed by an operation before", "", "0eb 1ca 2ea 3ec", "yes yes no -"},
		{"the first", "0ca", "0ea 1eb", "no -"},
		{"the others of its stage", "0ca", "0ea 0eb 1ec 1ed", "no yes - -"},
		{"the last of its stage", "0ca", "0eb 0ea 1ec", "yes no -"},
		{"two of a stage", "0ca", "0ea 0eb 0ea 1ec", "no yes no -"},
		{"not what is before", "0ca", "0eb 0ec 3ed 7ea 7ee 9ef", "yes yes yes no yes -"},
		{"a key that was used for another", "0ka", "0eb 1Ka 2ec", "yes no -"},
		{"a key that is known", "0ka", "0ka 1ka 2ec", "again again yes"},
		{"keys of a stage that is not reached", "0cz", "0ez 1ka 1kb", "no - -"},
		{"a key after keys that are not reached", "0cz", "0ka 1ez 1kb 2kc 3kd", "yes no yes - -"},
		{"a condition", "0sa", "0aa 1sb 2ec", "no - -"},
		{"all kinds that are not reached", "0cz", "0kb 1ez 2sa 2cc 2ad 2ke 3ef", "yes no - - - - -"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			test := fmt.Sprintf("%d/", i)
			if tt.before != "" {
				appendAll(t, log, staged(test, tt.before)...)
			}
			applied := len(f.all())
			ops := staged(test, tt.ops)
			results := appendAll(t, log, ops...)
			if got := words(results); got != tt.want {
				t.Fatalf("%s gives %q, want %q", tt.ops, got, tt.want)
			}
			if got, want := len(f.all())-applied, strings.Count(tt.want, "yes"); got != want {
				t.Errorf("%d entries are applied, want %d", got, want)
			}
			// What was not decided is as if it had not come.
			for i, r := range results {
				if !errors.Is(r.Err, broker.ErrNotReached) {
					continue
				}
				if r := appendAll(t, log, ops[i])[0]; r.Err != nil || r.Repeated || r.Unchanged {
					t.Errorf("operation %d, alone: %+v", i, r)
				}
			}
		})
	}
}

// Appends that are made at the same time may be stored together.
func testStagesAlone(t *testing.T, h Harness) {
	log := open(t, h)
	follow(t, log)
	ended := make(chan string)
	const all = 120
	for i := range all {
		go func() {
			test, ops := fmt.Sprint(i), "0ea 1ea 1ea"
			want := "yes yes yes"
			switch i % 3 {
			case 0:
				ops, want = "0ea 1cb 2eb 3ea", "yes yes no -"
			case 1: // no stages, and the last is refused
				ops, want = "0ea 0cb 0eb", "yes yes no"
			}
			results, err := log.Append(t.Context(), staged(test, ops))
			got := words(results)
			if err != nil {
				got = err.Error()
			}
			if got == want {
				got = ""
			}
			ended <- got
		}()
	}
	for range all {
		if wrong := <-ended; wrong != "" {
			t.Errorf("got %q", wrong)
		}
	}
}
