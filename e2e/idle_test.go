package e2e

import (
	"bufio"
	"context"
	"errors"
	"strconv"
	"testing"
	"time"
)

// These streams are idle for longer than a timeout that must not apply to streams.
// The tests have to wait for that.

func TestAnIdleStreamOutlivesTheTimeoutsOfTheServer(t *testing.T) {
	t.Parallel()
	s := start(t, config(`
	servers {
		timeouts {
			read_header 2s
			read_body 2s
			write 2s
			idle 2s
		}
	}
`, `
	evstream /quiet/* {
		allow anyone subscribe,publish **
		heartbeat off
		write_timeout 1s
	}
	evstream /beating/* {
		allow anyone subscribe,publish **
		heartbeat 1s
		write_timeout 1s
	}
`))
	for channel, proto := range map[string]protocol{"a": plainH1, "b": tlsH1, "c": tlsH2, "d": tlsH3, "e": attachedH1} {
		t.Run(string(proto), func(t *testing.T) {
			t.Parallel()
			quiet := open(t, proto.client(t), proto.url(s, "/quiet/"+channel))
			beating := open(t, proto.client(t), proto.url(s, "/beating/"+channel))
			if err := errors.Join(proto.check(quiet.response), proto.check(beating.response)); err != nil {
				t.Fatal(err)
			}
			// This one is read all the time, as a client does.
			beaten := watch(t, beating)
			idle := time.After(6 * time.Second)
			eventually(t, "heartbeats", func() bool { return beating.raw.heartbeats() >= 5 })
			<-idle
			p := &publisher{client: plainClient(t), base: "http://" + s.plain + "/quiet"}
			for range 2 { // a deadline that has passed may let the first one through
				if err := p.publish(channel); err != nil {
					t.Fatal(err)
				}
				if e := quiet.must(t); string(e.Data) != strconv.Itoa(p.last) {
					t.Errorf("instead of %d: %+v", p.last, e)
				}
			}
			eventually(t, "the stream with heartbeats has both", func() bool { return beaten.at() == 2 })
		})
	}
}

func TestAStreamThroughTheAdminEndpointOutlivesItsReadTimeout(t *testing.T) {
	t.Parallel()
	s := start(t, config("", `
	evstream /live/* {
		allow anyone subscribe **
	}
`))
	r := open(t, plainH1.client(t), "http://"+s.admin+"/evstream/a")
	public := open(t, plainH1.client(t), "http://"+s.plain+"/live/a")
	<-time.After(11 * time.Second) // the endpoint reads a request for 10 s
	p := &publisher{client: plainClient(t), base: "http://" + s.admin + "/evstream"}
	for range 3 {
		if err := p.publish("a"); err != nil {
			t.Fatal(err)
		}
	}
	for _, r := range []*reader{r, public} {
		for _, want := range []string{"1", "2", "3"} {
			if e := r.must(t); string(e.Data) != want {
				t.Errorf("instead of %s: %+v", want, e)
			}
		}
	}
	if n := s.disconnects("client") + s.disconnects("slow") + s.disconnects("error"); n != 0 {
		t.Errorf("%d streams ended", n)
	}
}

func TestCompressionLeavesStreamsAlone(t *testing.T) {
	t.Parallel()
	s := start(t, config("", `
	encode {
		gzip
		zstd
		minimum_length 1
		match {
			header Content-Type text/*
		}
	}
	evstream /live/* {
		allow anyone subscribe,publish **
	}
`))
	p := &publisher{client: plainClient(t), base: "http://" + s.plain + "/live"}
	for _, proto := range []protocol{plainH1, attachedH1, tlsH2, tlsH3} {
		t.Run(string(proto), func(t *testing.T) {
			accept := []string{"Accept-Encoding", "gzip, zstd"}
			ctx, cancel := context.WithTimeout(t.Context(), patience)
			defer cancel()
			page, err := connect(ctx, proto.client(t), proto.url(s, "/page"), accept...)
			if err != nil {
				t.Fatal(err)
			}
			defer page.response.Body.Close()
			if page.response.Header.Get("Content-Encoding") == "" {
				t.Error("a page is not compressed: this test tests nothing")
			}
			r := open(t, proto.client(t), proto.url(s, "/live/a"), accept...)
			if coding := r.response.Header.Get("Content-Encoding"); coding != "" {
				t.Errorf("the stream is in %s", coding)
			}
			if err := proto.check(r.response); err != nil {
				t.Fatal(err)
			}
			for _, data := range []string{"one", "two"} {
				if err := p.post("a", data); err != nil {
					t.Fatal(err)
				}
				if e := r.must(t); string(e.Data) != data { // it is there before the next is published
					t.Errorf("instead of %s: %+v", data, e)
				}
			}
		})
	}
}

func TestAStreamBeginsBeforeThereIsAnEvent(t *testing.T) {
	t.Parallel()
	s := start(t, config("", `
	encode gzip
	evstream /live/* {
		allow anyone subscribe **
	}
`))
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	for _, proto := range []protocol{plainH1, attachedH1} {
		r, err := connect(ctx, proto.client(t), proto.url(s, "/live/a?open=0"))
		if err != nil {
			t.Fatal(err)
		}
		defer r.response.Body.Close()
		if first, err := bufio.NewReader(r.response.Body).ReadByte(); err != nil || first != ':' {
			t.Errorf("the first byte is %q, %v", first, err)
		}
	}
}
