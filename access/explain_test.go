package access

import (
	"fmt"
	"testing"
)

func TestExplanationsNameTheRuleThatDecidesAndWhyTheOthersDoNot(t *testing.T) {
	a, err := NewPolicy(rulesOf(
		"anyone subscribe public/**",
		"guest publish room/*",
		"user subscribe,session users/{user}/**",
		"user subscribe org/{claims.org}/{claims.team}/**",
		"user all {user}/**",
	), []string{"guest"}, true)
	if err != nil {
		t.Fatal(err)
	}
	alice := &Caller{User: "alice", Claims: map[string]any{"org": "a/b", "team": "x"}, Grants: testGrants(t, "subscribe", "room/*")}
	for _, tt := range []struct {
		who         *Caller
		do, channel string
		want        string
	}{
		{alice, "subscribe", "users/alice/inbox", `%s, to subscribe "users/alice/inbox": allowed by: allow user subscribe,session users/{user}/**
  allow anyone subscribe public/**
    does not contain all of the channel
  allow guest publish room/*
    is not about this caller
  allow user subscribe,session users/{user}/**
    allows it
  allow user subscribe org/{claims.org}/{claims.team}/**
    matches no channel: the caller has no usable value for {claims.org}
  allow user all {user}/**
    does not contain all of the channel
  the token's grant subscribe room/*
    does not contain all of the channel
`},
		{alice, "subscribe", "room/1", `%s, to subscribe "room/1": allowed by: the token's grant subscribe room/*
  allow anyone subscribe public/**
    does not contain all of the channel
  allow guest publish room/*
    is not about this caller
  allow user subscribe,session users/{user}/**
    does not contain all of the channel
  allow user subscribe org/{claims.org}/{claims.team}/**
    matches no channel: the caller has no usable value for {claims.org}
  allow user all {user}/**
    does not contain all of the channel
  the token's grant subscribe room/*
    allows it
`},
		{&Caller{User: "_bob"}, "publish", "_bob/x", `%s, to publish "_bob/x": not allowed: no rule allows it
  allow anyone subscribe public/**
    does not allow to publish
  allow guest publish room/*
    is not about this caller
  allow user subscribe,session users/{user}/**
    does not allow to publish
  allow user subscribe org/{claims.org}/{claims.team}/**
    does not allow to publish
  allow user all {user}/**
    matches no channel: the caller has no usable value for {user}
`},
	} {
		x := a.Explain(tt.who, tt.do, tt.channel)
		if want := fmt.Sprintf(tt.want, tt.who); x.String() != want {
			t.Errorf("got\n%s\nwant\n%s", x, want)
		}
		if x.Decision != a.Decide(tt.who, tt.do, tt.channel) {
			t.Errorf("the explanation decides %+v", x.Decision)
		}
	}
}

func TestTheAdminEndpointIsExplained(t *testing.T) {
	x := AllowAll().Explain(&Caller{Admin: true}, "publish", "x/")
	if !x.Decision.Allowed || x.Decision.By != "the admin endpoint" || x.rules != nil {
		t.Errorf("%s", x)
	}
}
