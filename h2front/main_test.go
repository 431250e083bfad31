package h2front

import (
	"testing"

	"github.com/evstream/caddy-evstream/internal/leaktest"
)

func TestMain(m *testing.M) { leaktest.VerifyTestMain(m) }
