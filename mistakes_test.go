package evstream

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2/caddyconfig"
)

// The words of a block are those that it takes, all of them: a hint names no other,
// and none is missing from the hints.
func TestSuggestedWordsExist(t *testing.T) {
	for block, w := range map[string]words{
		":80 {\n\tevstream {\n\t\tWORD\n\t}\n}\n":                                                          handlerWords,
		"{\n\tevstream {\n\t\tWORD\n\t}\n}\n":                                                              brokerWords,
		"{\n\tevstream {\n\t\tchannel a {\n\t\t\tWORD\n\t\t}\n\t}\n}\n":                                    channelWords,
		":80 {\n\tevstream {\n\t\tjwt {\n\t\t\tWORD\n\t\t}\n\t}\n}\n":                                      jwtWords,
		":80 {\n\tevstream {\n\t\ttickets {\n\t\t\tWORD\n\t\t}\n\t}\n}\n":                                  ticketsWords,
		":80 {\n\tevstream {\n\t\tverify http://x {\n\t\t\tWORD\n\t\t}\n\t}\n}\n":                          verifyWords,
		":80 {\n\tevstream {\n\t\thandoff grip {\n\t\t\tWORD\n\t\t}\n\t}\n}\n":                             gripWords,
		":80 {\n\tevstream {\n\t\trecord x {\n\t\t\tWORD\n\t\t}\n\t}\n}\n":                                 recordWords,
		"{\n\tevstream {\n\t\tadapter bolt {\n\t\t\tWORD\n\t\t}\n\t}\n}\n":                                 boltWords,
		"{\n\tevstream {\n\t\tadapter redis {\n\t\t\tWORD\n\t\t}\n\t}\n}\n":                                redisWords,
		"{\n\tevstream {\n\t\tadapter redis {\n\t\t\tsentinel m {\n\t\t\t\tWORD\n\t\t\t}\n\t\t}\n\t}\n}\n": sentinelWords,
		"{\n\tevstream {\n\t\tadapter redis {\n\t\t\ttls {\n\t\t\t\tWORD\n\t\t\t}\n\t\t}\n\t}\n}\n":        tlsWords,
	} {
		for _, every := range allWords() {
			for _, word := range every.list {
				_, _, err := caddyconfig.GetAdapter("caddyfile").Adapt([]byte(strings.Replace(block, "WORD", word, 1)), nil)
				known := err == nil || !strings.Contains(err.Error(), "unknown")
				if known != slices.Contains(w.list, word) {
					t.Errorf("%s in %s: %v", word, w.where, err)
				}
			}
		}
	}
}

// What is unset when Caddy runs is named, with where it has to be set.
func TestUnsetVariablesAreNamed(t *testing.T) {
	for name, tt := range map[string]struct{ block, want string }{
		"a bearer":               {"bearer backend {env.EVSTREAM_TEST_UNSET}\nallow backend publish **", `the secret of bearer "backend": {env.EVSTREAM_TEST_UNSET} must be set in the environment of the running Caddy`},
		"a key":                  {"jwt {\nkey {env.EVSTREAM_TEST_UNSET}\n}\nallow user subscribe **", `jwt: key 1: {env.EVSTREAM_TEST_UNSET} must be set in the environment of the running Caddy`},
		"a misspelt placeholder": {"bearer b {ENV.EVSTREAM_TEST_UNSET}\nallow b publish **", `unrecognized placeholder {ENV.EVSTREAM_TEST_UNSET}; what is not the value itself is {env.NAME} or {file./absolute/path}`},
		"a missing file":         {"bearer b {file./nonexistent/secret}\nallow b publish **", `{file./nonexistent/secret} cannot be read by the running Caddy: open /nonexistent/secret`},
		"a ticket key":           {"bearer b a-long-secret-of-the-test\ntickets {\nkey {env.EVSTREAM_TEST_UNSET}\n}\nallow b subscribe **", `tickets: key 1: {env.EVSTREAM_TEST_UNSET} must be set in the environment of the running Caddy`},
	} {
		err := validate(t, options("")+":0 {\n\tevstream /live/* {\n"+tt.block+"\n\t}\n}\n")
		if err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// What was written wrongly, in the block of the handler or of the broker: the error
// names it, what is allowed, and the line.
func TestMistakesAreNamed(t *testing.T) {
	handler := func(lines string) string {
		return ":80 {\n\t@inside remote_ip 10.0.0.0/8\n\tevstream /live/* {\n" + lines + "\nallow anyone subscribe **\n\t}\n}\n"
	}
	broker := func(lines string) string { return "{\n\n\tevstream {\n" + lines + "\n\t}\n}\n" }
	const key = "key a-secret-of-thirty-two-bytes-or-more"
	for _, tt := range []struct{ file, want string }{
		// Words.
		{handler("ignore_qurey utm_source"), `unknown subdirective "ignore_qurey"; did you mean "ignore_query"?, at Caddyfile:4`},
		{handler("reverse_proxy localhost:3000"), `unknown subdirective "reverse_proxy"; there is: handoff, record, resume, mount, broker, allow, `},
		{handler("share 10%"), `unknown subdirective "share": it belongs in the global option evstream { … }, at Caddyfile:4`},
		{handler("read_rate 10"), `unknown subdirective "read_rate": it belongs in the global option`},
		{handler("event_types goal"), `unknown subdirective "event_types": it belongs in channel <pattern> { … } of the global option evstream`},
		{handler("issuer x"), `unknown subdirective "issuer": it belongs in jwt { … } of the handler`},
		{handler("key x"), `unknown subdirective "key": it belongs in jwt { … } of the handler`},
		{handler("redis redis://a:6379"), `unknown subdirective "redis": write adapter redis, in the global option evstream { … }`},
		{broker("shar 10%"), `unknown option "shar"; did you mean "share"?, at Caddyfile:4`},
		{broker("redis redis://a:6379"), `unknown option "redis": write adapter redis, in the global option evstream { … }`},
		{broker("prefix x"), `unknown option "prefix": it belongs in adapter redis <url> { … } of the global option evstream`},
		{broker("channel a {\nmax_event 1KiB\n}"), `unknown option "max_event" of a channel: it belongs in the global option evstream { … }, at Caddyfile:5`},
		{broker("adapter redis redis://a:6379 {\npasword x\n}"), `unknown subdirective "pasword"; did you mean "password"?, at Caddyfile:5`},
		{broker("adapter redis redis://a:6379 {\ntimeout 1s\n}"), `unknown subdirective "timeout"; there is: address, username, `},
		// Arguments.
		{handler("mount"), `mount takes one path, such as /live`},
		{handler("broker"), `broker takes the name of one broker, as the global option "evstream <name>" declares it`},
		{handler("cookie"), `cookie takes the name of one cookie; if it was a {$NAME}, that is not set in the environment of this command, at Caddyfile:4`},
		{handler("cors"), `cors takes origins, such as https://app.example.com`},
		{handler("ignore_query"), `ignore_query takes names of query parameters, such as utm_source`},
		{handler("verify"), `verify takes the URL that is asked who the caller is, such as https://app.example.com/auth, at Caddyfile:4`},
		{handler("verify https://a.test {\nforward\n}"), `forward takes names of headers, such as Cookie`},
		{handler("heartbeat 15 s"), `heartbeat takes one duration, such as 15s, written without a space, or "off", at Caddyfile:4`},
		{handler("max_body 1 MB"), `max_body takes one value, not 2: 1 MB; one with a unit is written without a space, such as 64KiB`},
		{handler("max_body"), `max_body: "" is not a size above zero, such as 64KiB, or "unlimited"`},
		{handler("delivery taken"), `delivery is auto or attached, not "taken"`},
		{handler("insecure_query_token a b"), `insecure_query_token takes the name of one parameter, or none for "token"`},
		{handler("jwt {\nissuer a b\n}"), `issuer takes the value of the claim iss, and no more: ["b"], at Caddyfile:5`},
		{handler("jwt a-secret-of-thirty-two-bytes-or-more"), `its options stand in a block, jwt { … }`},
		{broker("adapter"), `adapter takes a name: `},
		{broker("adapter redis://a:6379"), `adapter takes a name before the URL: adapter redis <url>`},
		{broker("adapter redis redis://a:6379 {\npassword {$EVSTREAM_TEST_UNSET}\n}"), `password takes one secret, such as {env.REDIS_PASSWORD}; if it was a {$NAME}, that is not set in the environment of this command. Write {env.NAME}`},
		{broker("history"), `history takes a count, an age, a size, or off, such as: history 1000 1h`},
		{broker("channel"), `channel takes a pattern, such as chat/**, and a block`},
		{broker("channel a {\nevent_types goal,score\n}"), `event_types: "goal,score" has a comma: spaces separate the types, at Caddyfile:5`},
		{":80 {\n\tevstream live/* {\n\t\tallow anyone subscribe **\n\t}\n}\n", `unexpected argument "live/*": evstream takes one matcher, which is a path such as /live/* or the @name of one, and a block, at Caddyfile:2`},
		{"{\n\tevstream /live/* {\n\t}\n}\n", `"/live/*" cannot name a broker: the handler, evstream /live/* { … }, belongs in a site, at Caddyfile:2`},
		// Rules.
		{handler("allow anyone subscribe publish **"), `what is allowed is one argument, in which commas separate, and no spaces: allow anyone subscribe,publish **, at Caddyfile:4`},
		{handler("allow anyone subscribe, publish **"), `and no spaces: allow anyone subscribe,publish **`},
		{handler("allow anyone subscribe /chat/**"), `"/chat/**": a name does not begin with /`},
		{handler("allow inside publish **"), `"inside" is nobody, but there is a matcher @inside: write it with its @, at Caddyfile:4`},
		// Secrets.
		{handler("bearer backend $EVSTREAM_TOKEN"), `the secret would be the text $EVSTREAM_TOKEN: write {env.EVSTREAM_TOKEN}, which the running Caddy reads, at Caddyfile:4`},
		{handler("bearer {env.EVSTREAM_TOKEN} backend"), `"{env.EVSTREAM_TOKEN}" cannot name a bearer: a name has no space and none of @ { }`},
		{handler("jwt {\nkey /etc/caddy/keys/of/evstream/public.pem\n}"), `jwt: key 1 would be the text /etc/caddy/keys/of/evstream/public.pem: write {file./etc/caddy/keys/of/evstream/public.pem} to read the file, at Caddyfile:5`},
		{handler("bearer b a-secret-of-a-test\ntickets {\nkey ${EVSTREAM_TICKET_KEY}\n}"), `write {env.EVSTREAM_TICKET_KEY}, which the running Caddy reads, at Caddyfile:6`},
		// The line is that of the option, where the block's end shows the mistake.
		{handler("jwt {\n" + key + "\nalgorithms HS257\nissuer x\n}"), `jwt: algorithms: "HS257" is not an algorithm; there is: HS256 HS384`},
		{handler("jwt {\n" + key + "\nalgorithms HS257\nissuer x\n}"), `EdDSA, at Caddyfile:6`},
		{handler("bearer b a-secret-of-a-test\ntickets {\nlifetime 300h\n}"), `tickets: lifetime must be from 1s to 1h, not 300h0m0s, at Caddyfile:6`},
		{handler("heartbeat 30s\ncookie session"), `cookie names the cookie that has a token, so jwt has to say which tokens are accepted, at Caddyfile:5`},
		{handler("heartbeat 30s\ndrain 1s\nheartbeat 40s"), `heartbeat is given twice, first in line 4, at Caddyfile:6`},
	} {
		if strings.Contains(tt.file, "\nmount\n") {
			tt.file = strings.Replace(tt.file, "/live/* ", "", 1)
		}
		_, _, err := caddyconfig.GetAdapter("caddyfile").Adapt([]byte(tt.file), nil)
		if err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("got the error %v\nwant part of it %s", err, tt.want)
		}
	}
}

// handle_path takes off what it matches. An evstream within it that has the path, too,
// is found at /live/live/, and a newcomer's first curl is answered an empty 200.
func TestAMountThatIsStrippedIsWarnedOf(t *testing.T) {
	const block = " {\nallow anyone subscribe **\n}\n"
	for name, tt := range map[string]struct {
		site string
		want int
	}{
		"in handle_path":               {"handle_path /live/* {\nevstream /live/*" + block + "}\n", 1},
		"with a longer mount":          {"handle_path /live/* {\nevstream /live/chat/*" + block + "}\n", 1},
		"after uri strip_prefix":       {"route {\nuri strip_prefix /live\nevstream /live/*" + block + "}\n", 1},
		"without a path":               {"handle_path /live/* {\nevstream" + block + "}\n", 0},
		"with another mount":           {"handle_path /app/* {\nevstream /live/*" + block + "}\n", 0},
		"with a name that begins so":   {"handle_path /live/* {\nevstream /lively/*" + block + "}\n", 0},
		"in handle":                    {"handle /live/* {\nevstream /live/*" + block + "}\n", 0},
		"beside what strips sometimes": {"route {\n@old header X-Old *\nuri @old strip_prefix /live\nevstream /live/*" + block + "}\n", 0},
	} {
		t.Run(name, func(t *testing.T) {
			file := filepath.Join(t.TempDir(), "log")
			load(t, options("\tlog {\n\t\toutput file "+file+"\n\t}")+"http://"+freeAddress(t)+" {\n"+tt.site+"}\n")
			log, err := os.ReadFile(file)
			if n := strings.Count(string(log), "takes the mount off the path"); err != nil || n != tt.want {
				t.Errorf("%d warnings, want %d, %v", n, tt.want, err)
			}
			if tt.want > 0 && !strings.Contains(string(log), `"channels":"/live/live`) {
				t.Errorf("logged is\n%s", log)
			}
		})
	}
}
