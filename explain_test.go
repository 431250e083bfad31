package evstream

import (
	"fmt"
	"testing"
)

func TestExplanationsNameTheRuleThatDecidesAndWhyTheOthersDoNot(t *testing.T) {
	a, err := newAccess(rulesOf(
		"anyone subscribe public/**",
		"guest publish room/*",
		"user subscribe,presence users/{user}/**",
		"user subscribe org/{claims.org}/{claims.team}/**",
		"user all {user}/**",
	), map[string]string{"guest": "1"})
	if err != nil {
		t.Fatal(err)
	}
	alice := caller{user: "alice", claims: map[string]any{"org": "a/b", "team": "x"}, grants: testGrants(t, "subscribe", "room/*")}
	for _, tt := range []struct {
		who         caller
		do, channel string
		want        string
	}{
		{alice, "subscribe", "users/alice/inbox", `%s, to subscribe "users/alice/inbox": allowed by: allow user subscribe,presence users/{user}/**
  allow anyone subscribe public/**
    does not contain all of the channel
  allow guest publish room/*
    is not about this caller
  allow user subscribe,presence users/{user}/**
    allows it
  allow user subscribe org/{claims.org}/{claims.team}/**
    takes in nothing here: the caller has no fit value for {claims.org}
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
  allow user subscribe,presence users/{user}/**
    does not contain all of the channel
  allow user subscribe org/{claims.org}/{claims.team}/**
    takes in nothing here: the caller has no fit value for {claims.org}
  allow user all {user}/**
    does not contain all of the channel
  the token's grant subscribe room/*
    allows it
`},
		{caller{user: "_bob"}, "publish", "_bob/x", `%s, to publish "_bob/x": not allowed: no rule allows it
  allow anyone subscribe public/**
    does not allow to publish
  allow guest publish room/*
    is not about this caller
  allow user subscribe,presence users/{user}/**
    does not allow to publish
  allow user subscribe org/{claims.org}/{claims.team}/**
    does not allow to publish
  allow user all {user}/**
    takes in nothing here: the caller has no fit value for {user}
`},
	} {
		x := a.explain(tt.who, tt.do, tt.channel)
		if want := fmt.Sprintf(tt.want, tt.who); x.String() != want {
			t.Errorf("got\n%s\nwant\n%s", x, want)
		}
		if x.decision != a.decide(tt.who, tt.do, tt.channel) {
			t.Errorf("the explanation decides %+v", x.decision)
		}
	}
}

func TestTheAdminEndpointIsExplained(t *testing.T) {
	x := allowAll.explain(caller{admin: true}, "publish", "x/")
	if !x.decision.allowed || x.decision.by != "the admin endpoint" || x.rules != nil {
		t.Errorf("%s", x)
	}
}
