package evstream

import (
	"strings"
	"testing"
)

// What a reload did to the open streams is in the log: those that it ended have no
// line of their own where no access log is kept.
func TestAReloadSaysWhatBecomesOfStreams(t *testing.T) {
	address := freeAddress(t)
	with := func(admin, rules string) string { return withAdmin(admin, address, "", rules) }
	p := startCaddy(t, func(admin string) string { return with(admin, "allow anyone subscribe **") })
	for _, channel := range []string{"a", "a", "b", "c", "c", "c"} {
		subscribe(t, "http://"+address+"/live/"+channel)
	}
	p.load(with(p.admin, "allow anyone subscribe a b"))                      // c is refused
	p.load(with(p.admin, "allow anyone subscribe a b\non_reload drain 10s")) // all go on
	p.load(with(p.admin, "allow anyone subscribe a"))                        // b is refused, a is drained
	p.stop()
	var said []string
	for line := range strings.Lines(p.log.String()) {
		if _, counts, ok := strings.Cut(line, `"broker":"default",`); ok && strings.Contains(line, "open streams went over to the new configuration") {
			said = append(said, strings.TrimSuffix(counts, "}\n"))
		}
	}
	if len(said) != 3 || said[0] != `"streams":6,"refused":3,"ended":0` || said[1] != `"streams":3,"refused":0,"ended":0` || said[2] != `"streams":3,"refused":1,"ended":2` {
		t.Errorf("logged is %q", said)
	}
}
