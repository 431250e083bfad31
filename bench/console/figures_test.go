package main

import "testing"

func TestAFrameIsDroppedWhereThereWasRoomForIt(t *testing.T) {
	if got := dropped([]float64{16.6, 16.7, 17, 24, 33.3, 50, 8}); got != 3 {
		t.Errorf("%d frames are dropped, want 1 of the gap of 33 ms and 2 of that of 50", got)
	}
}
