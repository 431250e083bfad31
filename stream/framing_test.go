package stream

import (
	"testing"
	"testing/synctest"
	"time"
)

// A client tells from the last chunk that the stream has ended, and not broken.
func TestOnlyAnEndInGoodOrderWritesTheLastChunk(t *testing.T) {
	for name, tt := range map[string]struct {
		options Options
		end     func(t *testing.T, s *served)
		reason  Reason
		proper  bool
	}{
		"the end":            {Options{}, func(_ *testing.T, s *served) { s.End() }, ReasonEnded, true},
		"a reload":           {Options{}, func(_ *testing.T, s *served) { s.Close(ReasonReload) }, ReasonReload, true},
		"an exit":            {Options{}, func(_ *testing.T, s *served) { s.Drain(time.Second, ReasonShutdown) }, ReasonShutdown, true},
		"a revocation":       {Options{}, func(_ *testing.T, s *served) { s.Close(ReasonRevoked) }, ReasonRevoked, true},
		"a ticket used anew": {Options{}, func(_ *testing.T, s *served) { s.Close(ReasonReplaced) }, ReasonReplaced, true},
		"age":                {Options{MaxAge: time.Minute}, func(*testing.T, *served) {}, ReasonAge, true},
		"the server closes":  {Options{}, func(_ *testing.T, s *served) { s.server.Close() }, ReasonClosed, true},
		"the broker closes": {Options{}, func(t *testing.T, s *served) {
			if err := s.broker.Close(); err != nil {
				t.Error(err)
			}
		}, ReasonClosed, true},
		"the end, after a stall": {Options{}, func(t *testing.T, s *served) {
			s.stall()
			s.publish(t, "a", "1")
			s.End()
			synctest.Wait()
			for range 200 { // bytes, so that each write is cut off once
				s.give(1)
				synctest.Wait()
			}
			s.release()
		}, ReasonEnded, true},
		"a stall": {Options{}, func(t *testing.T, s *served) {
			s.stall()
			s.publish(t, "a", "1")
		}, ReasonSlow, false},
		"a stall while it ends": {Options{}, func(t *testing.T, s *served) {
			s.stall()
			s.publish(t, "a", "1")
			s.End()
		}, ReasonEnded, false},
		"a stall while the server closes": {Options{}, func(t *testing.T, s *served) {
			s.stall()
			s.publish(t, "a", "1")
			synctest.Wait()
			s.server.Close()
		}, ReasonClosed, false},
		"an abort": {Options{}, func(t *testing.T, s *served) {
			s.stall()
			s.publish(t, "a", "1")
			synctest.Wait()
			s.Abort()
		}, ReasonSlow, false},
		"a client that leaves": {Options{}, func(_ *testing.T, s *served) { s.stream.onHangup() }, ReasonClient, false},
		"a broken connection": {Options{}, func(t *testing.T, s *served) {
			s.hangUp()
			s.publish(t, "a", "1")
		}, ReasonClient, false},
	} {
		t.Run(name+"/detached", func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := serve(t, tt.options)
				tt.end(t, s)
				select {
				case <-s.Done():
				case <-time.After(time.Hour):
					t.Fatal("the stream does not end")
				}
				if s.chunks.over != tt.proper || s.Reason() != tt.reason && tt.reason != ReasonEnded {
					t.Errorf("ended for %q, with the last chunk: %v", s.Reason(), s.chunks.over)
				}
			})
		})
	}
}
