package evstream

import (
	"bufio"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// The attacks with a name, and the tests that fail without their defence.
//
//	a CR alone in a field        TestACRAloneForgesNoField; sse: TestValidateRefusesWhatCannotTravel, FuzzRoundTrip
//	cross-origin publish         TestWritesWithACookieNeedAnAllowedOrigin, TestConfiguredOriginsMayPublish;
//	                             e2e: TestAForeignPageIsRefused
//	cross-site EventSource       TestReadsWithACookieAreNotForForeignPages; e2e: TestAForeignPageIsRefused
//	gzip bomb                    TestACompressedBodyIsRefusedUnread
//	slow readers, h1, h2, h3     e2e: TestFiftyOfAThousandThatStopReadingHoldUpNobody; TestExitWaitsForNoStalledReader
//	connect floods               TestAFloodFromOneAddressHoldsUpNobodyElse, TestAFullTableForgetsNobodyWhoIsOverTheRate,
//	                             TestANetworkOfIPv6IsOneAddress
//	guessable session ids        TestSessionIDsAreRandom
//	filling shared tables        TestWhoFillsTablesFillsItsShareOnly, TestARefusedSubscriptionDropsNoHistory
//	keys made by joining strings TestCallersWhoseNamesJoinToTheSameTextAreApart
//	a name that is a wildcard    TestPlaceholdersAreOneWholeSegmentOrNothing, FuzzTemplate
//	a page in your network       TestAMatcherIsNotForPagesOfAnyOrigin
//	a matcher that says "not"    TestAMatcherThatDidNotMatchDoesNotMatchAfterAReload, TestAMatcherNeedsACondition
//	an encoded slash, dots       TestBadSubscriptionsAreTold, FuzzResource
//
// And those that are about tokens:
//
//	JWKS of an unverified claim  TestATokenBringsNoKeyOfItsOwn
//	JWKS cached by kid alone     TestKeysOfOneIssuerAreNotAnothers
//	algorithm confusion          TestAPublicKeyIsNoSecret
//	the algorithm "none"         TestATokenThatIsNotSignedIsRefused
//	kid traversal                TestAKeyIDIsOnlyCompared
//	dots bomb                    TestATokenOfDotsCostsNothing
//	a cache of joined strings    TestQuestionsThatDifferAreRememberedApart, TestCallersAreToldApart
//	token in query, log, Referer TestTheInsecureParameterIsWarnedOf, TestTheDocumentedFilterKeepsSecretsOutOfTheLog
//	another spelling of a token  TestARevokedTokenHasNoOtherSpelling
//	guessable tickets            TestTicketsCannotBeGuessedOrChanged

func TestTheTableOfAttacksNamesTestsThatExist(t *testing.T) {
	text, err := os.ReadFile("contract_attacks_test.go")
	if err != nil {
		t.Fatal(err)
	}
	table, _, _ := strings.Cut(string(text), "\nfunc ")
	var code strings.Builder
	err = filepath.WalkDir(".", func(path string, _ fs.DirEntry, err error) error {
		if err != nil || !strings.HasSuffix(path, "_test.go") {
			return err
		}
		b, err := os.ReadFile(path)
		code.Write(b)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	names := regexp.MustCompile(`\b(?:Test|Fuzz)[A-Z]\w+`).FindAllString(table, -1)
	if len(names) < 20 {
		t.Errorf("the table names %d tests only", len(names))
	}
	for _, name := range names {
		if !strings.Contains(code.String(), "\nfunc "+name+"(") {
			t.Errorf("there is no %s", name)
		}
	}
}

// A CR ends a line of a stream as well as a LF does (CVE-2026-22735, -33128,
// -44214): whoever could publish one as part of a field would write fields of
// their own into everybody's stream.
func TestACRAloneForgesNoField(t *testing.T) {
	eachServer(t, func(t *testing.T, on server) {
		e := on.start(t)
		s := openStream(t, e, "/live/match.7")
		s.opened()
		envelope := openStream(t, e, "/live/match.7?envelope=1")
		envelope.opened()
		for _, path := range []string{
			"/live/match.7?event=a%0Devent:%20evstream.gap", "/live/match.7?event=a%0D", "/live/match.7?event=%0Ddata:%20x",
			"/live/match.7?id=a%0Did:%20evstream.end", "/live/match.7?id=%0D", "/live/match.7?event=a%0Ab", "/live/match.7?id=a%00",
		} {
			wantProblem(t, ask(t, e, asBackend("POST", path, "x")), 400, "bad-event")
		}
		for _, item := range []string{`{"channel":"match.7","event":"a\rb"}`, `{"channel":"match.7","id":"a\rid: 1"}`} {
			wantProblem(t, ask(t, e, asBackend("POST", "/live/_publish", item)), 400, "bad-event")
		}
		for _, path := range []string{"/live/match.7%0Did:%20x", "/live/match.7%0A/"} {
			wantProblem(t, ask(t, e, asBackend("POST", path, "x")), 400, "bad-channel")
		}
		const forged = "a\rid: evstream.end\r\revent: evstream.gap\rdata: b"
		mustPost(t, e, "/live/match.7", forged)
		mustPost(t, e, "/live/match.7", forged, "Content-Type: application/x-ndjson")
		for range 2 {
			block := s.event()
			if want := "data: a\ndata: id: evstream.end\ndata: \ndata: event: evstream.gap\ndata: data: b\n"; block != want {
				t.Errorf("the stream has %q, want %q", block, want)
			}
			if block := envelope.event(); strings.Contains(block, "\r") || strings.Count(block, "\n") != 1 {
				t.Errorf("the envelope has %q", block)
			}
		}
	})
}

// Whoever knows a session's id can keep events from it, and more where sessions
// have rules.
func TestSessionIDsAreRandom(t *testing.T) {
	eachServer(t, func(t *testing.T, on server) {
		e := on.start(t)
		const n = 64
		var ones [128]int
		seen := make(map[string]bool)
		for range n {
			s := openStream(t, e, "/live/match.7")
			block := s.opening()
			s.cancel()
			_, data, _ := strings.Cut(block, "\ndata: ")
			var opened struct{ Session string }
			if err := json.Unmarshal([]byte(data), &opened); err != nil {
				t.Fatal(err)
			}
			id, err := base64.RawURLEncoding.DecodeString(opened.Session)
			if err != nil || len(id) != 16 {
				t.Fatalf("the id %q has not 128 bits: %v", opened.Session, err)
			}
			if seen[opened.Session] {
				t.Fatalf("the id %s comes twice", opened.Session)
			}
			seen[opened.Session] = true
			for i := range ones {
				ones[i] += int(id[i/8] >> (i % 8) & 1)
			}
		}
		// Of a random bit all are equal once in 2^63 runs; a clock, a counter or a
		// version has some that are.
		for i, count := range ones {
			if count == 0 || count == n {
				t.Errorf("bit %d is the same in all of %d ids", i, n)
			}
		}
	})
}

// That it is not read is tested in package httpapi.
func TestACompressedBodyIsRefusedUnread(t *testing.T) {
	eachServer(t, func(t *testing.T, on server) {
		e := on.start(t)
		for _, coding := range []string{"gzip", "x-gzip", "br", "zstd", "deflate", "GZIP", "identity, gzip"} {
			for _, path := range []string{"/live/a", "/live/_publish"} {
				for _, media := range []string{"text/plain", "application/x-ndjson", "text/event-stream"} {
					q := asBackend("POST", path, "x", "Content-Type: "+media, "Content-Encoding: "+coding)
					wantProblem(t, ask(t, e, q), 415, "bad-media")
				}
			}
		}
	})
}

// A cache whose keys are joined strings answers one caller with what is
// another's (CVE-2026-39972).
func TestCallersWhoseNamesJoinToTheSameTextAreApart(t *testing.T) {
	eachServer(t, func(t *testing.T, on server) {
		e := on.start(t, withRules("a publish **", "a:b publish **"), withBearers(map[string]string{"a": "1", "a:b": "2"}), func(c *siteConfig) {
			c.broker.PublishRate = Rate{PerSecond: 0.001, Burst: 1}
		})
		first := ask(t, e, request{"POST", "/live/x", []string{"Authorization: Bearer 1", "Idempotency-Key: :bk"}, "same"})
		second := ask(t, e, request{"POST", "/live/x", []string{"Authorization: Bearer 2", "Idempotency-Key: k"}, "same"})
		if first.StatusCode != 200 || second.StatusCode != 200 || second.Header.Get("Idempotency-Replayed") != "" {
			t.Errorf("%d, %d %s", first.StatusCode, second.StatusCode, bodyOf(t, second))
		}
		if got := kept(t, e, "x"); len(got) != 2 {
			t.Errorf("kept %v", got)
		}
	})
}

// flood connects from one address, as fast as connections are answered, for a
// second and until n were. Streams that are let in are kept, as an attacker
// would.
func flood(t *testing.T, address string, n int) (answered, admitted int64) {
	var total, in atomic.Int64
	begun := time.Now()
	goOn := func() bool { return total.Load() < int64(n) || time.Since(begun) < time.Second }
	requests := []byte(strings.Repeat("GET /live/a HTTP/1.1\r\nHost: "+address+"\r\nX-Forwarded-For: 198.51.100.7\r\n\r\n", 20))
	var workers sync.WaitGroup
	for range 8 {
		workers.Go(func() {
			for goOn() {
				conn, err := net.Dial("tcp", address)
				if err != nil {
					t.Error(err)
					return
				}
				t.Cleanup(func() { conn.Close() })
				_ = conn.SetDeadline(time.Now().Add(patience))
				answers := bufio.NewReader(conn)
				for open := true; open && goOn(); {
					if _, err := conn.Write(requests); err != nil {
						t.Error(err)
						return
					}
					for range 20 {
						resp, err := http.ReadResponse(answers, nil)
						if err != nil {
							t.Error(err)
							return
						}
						total.Add(1)
						if resp.ContentLength < 0 { // a stream, which goes on
							in.Add(1)
							open = false
							break
						}
						_, _ = io.Copy(io.Discard, resp.Body)
					}
				}
			}
		})
	}
	workers.Wait()
	return total.Load(), in.Load()
}

func TestAFloodFromOneAddressHoldsUpNobodyElse(t *testing.T) {
	eachServer(t, func(t *testing.T, on server) {
		e := on.start(t, withRules("anyone all **"), func(c *siteConfig) {
			c.broker.MaxConnectionsPerIP = Unlimited
			c.broker.ConnectRate = Rate{PerSecond: 100, Burst: 200}
		})
		url := e.url + "/live/a"
		done := make(chan struct{})
		begun := time.Now()
		var answered, admitted int64
		go func() {
			defer close(done)
			answered, admitted = flood(t, e.address, 10_000)
		}()
		others := 0
		for flooding := true; flooding; others++ {
			select {
			case <-done:
				flooding = false
			default:
			}
			from := fmt.Sprintf("203.0.113.%d", others%250)
			s := subscribe(t, url, header("X-Forwarded-For", from)) // fails the test if it is turned away
			mustPublish(t, url, fmt.Sprint("to ", others), header("X-Forwarded-For", from))
			s.expect(fmt.Sprint("to ", others))
			s.cancel()
		}
		took := time.Since(begun)
		t.Logf("%d connects in %s (%.0f a second), %d let in; meanwhile %d others connected",
			answered, took.Round(time.Millisecond), float64(answered)/took.Seconds(), admitted, others)
		if most := 200 + 100*int64(took/time.Second+2); admitted > most {
			t.Errorf("%d of %d were let in, at most %d may be", admitted, answered, most)
		}
		if admitted < 200 {
			t.Errorf("only %d were let in, of a burst of 200", admitted)
		}
		if n := e.hub.Stats().Refusals["connect_rate"]; int64(n) != answered-admitted {
			t.Errorf("%d were counted, want %d", n, answered-admitted)
		}
	})
}
