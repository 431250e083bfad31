package hub

import (
	"errors"
	"testing"
	"testing/synctest"
)

// What is refused is not paid for: neither rate counts an event that the other refuses.
func TestAnEventThatOneRateRefusesIsNotCountedByTheOther(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := testHub(t, Config{
			PublishRate:  Rate{PerSecond: 1, Burst: 10},
			PublishBytes: Rate{PerSecond: 1, Burst: 1000},
		})
		if err := h.MayPublish("a", 1, 600); err != nil {
			t.Fatal(err)
		}
		for range 100 {
			if err := h.MayPublish("a", 1, 500); !errors.Is(err, ErrPublishBytes) {
				t.Fatalf("data above the rate: %v, want %v", err, ErrPublishBytes)
			}
		}
		for i := range 9 {
			if err := h.MayPublish("a", 1, 1); err != nil {
				t.Fatalf("event %d after those that the rate of bytes refused: %v", i+2, err)
			}
		}
		if err := h.MayPublish("a", 1, 1); !errors.Is(err, ErrPublishRate) {
			t.Fatalf("event 11: %v, want %v", err, ErrPublishRate)
		}
	})
}

// The bytes of what is refused after the rates are given back.
func TestWhatIsNotPublishedCostsNoBytes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := testHub(t, Config{PublishBytes: Rate{PerSecond: 1, Burst: 1000}})
		for range 50 {
			if err := h.MayPublish("a", 1, 900); err != nil {
				t.Fatal(err)
			}
			h.NotPublished("a", 900)
		}
		if err := h.MayPublish("a", 1, 900); err != nil {
			t.Fatal(err)
		}
		if err := h.MayPublish("a", 1, 900); !errors.Is(err, ErrPublishBytes) {
			t.Fatalf("data above the rate: %v, want %v", err, ErrPublishBytes)
		}
	})
}
