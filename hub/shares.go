package hub

import "github.com/evstream/caddy-evstream/access"

// ShareOf names the share of the hub's tables that a caller fills: what is kept
// because somebody asked is bounded for each share. It is that of the caller's
// identity, or for callers without one that of the client's address.
//
// It is "", which may fill all, for the admin endpoint and for named bearers: they are
// the operator's own programs. It is "" also where the streams of an address are not
// counted, because all clients of a proxy on this host may have it.
func ShareOf(who *access.Caller, client string) string {
	if who.Admin || who.Name != "" {
		return ""
	}
	if identity := who.Identity(); identity != "" {
		return "caller " + identity
	}
	address, counted := countedAddress(client)
	if !counted {
		return ""
	}
	return "address " + address.String()
}
