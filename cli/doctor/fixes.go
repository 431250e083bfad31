package doctor

import (
	"net/http"
	"slices"
	"strings"
)

// The proxies whose settings are known here.
const (
	nginx      = "nginx"
	haproxy    = "HAProxy"
	caddy      = "Caddy"
	cloudflare = "Cloudflare"
	cloudfront = "CloudFront"
	alb        = "AWS ALB"
	apache     = "Apache"
	evstream   = "evstream" // the hub's own configuration
)

// recognise returns the proxies that give themselves away in the header of an answer.
// HAProxy and a load balancer of AWS do not. A Server of Caddy is the hub's own.
func recognise(h http.Header) []string {
	found := []string{}
	add := func(name string) {
		if !slices.Contains(found, name) {
			found = append(found, name)
		}
	}
	server := strings.ToLower(strings.Join(h.Values("Server"), ","))
	via := strings.ToLower(strings.Join(h.Values("Via"), ","))
	for _, known := range []struct{ mark, name string }{
		{"cloudflare", cloudflare},
		{"nginx", nginx},
		{"openresty", nginx},
		{"apache", apache},
		{"awselb", alb},
		{"haproxy", haproxy},
		{"cloudfront", cloudfront},
	} {
		if strings.Contains(server, known.mark) || strings.Contains(via, known.mark) {
			add(known.name)
		}
	}
	if strings.Contains(via, "caddy") { // its reverse_proxy adds it
		add(caddy)
	}
	if h.Get("Cf-Ray") != "" {
		add(cloudflare)
	}
	if h.Get("X-Amz-Cf-Id") != "" {
		add(cloudfront)
	}
	for _, c := range h.Values("Set-Cookie") {
		if strings.HasPrefix(c, "AWSALB") {
			add(alb)
		}
	}
	return found
}

// What to change. The kinds of trouble are those of a check, or finer.
const (
	fixBuffering   = "buffering"
	fixCompression = "compression"
	fixIdle        = "idle"
	fixLifetime    = "lifetime"
	fixLastEventID = "last-event-id"
	fixHTTP10      = "http10"
	fixHTTP2       = "http2"
	fixCORS        = "cors"
	fixCORSTwice   = "cors-twice"
	fixPreflight   = "preflight"
	fixRequest     = "request-body"
	fixCache       = "cache"
	fixNodes       = "nodes"
	fixClock       = "clock"
	fixCertificate = "certificate"
	fixChain       = "chain"
)

// remedies are the changes for each kind of trouble, by where they are made.
func remedies(kind string) []Fix {
	switch kind {
	case fixBuffering:
		return []Fix{
			{nginx, "in the location: proxy_buffering off;  proxy_http_version 1.1;  and no proxy_ignore_headers X-Accel-Buffering;"},
			{haproxy, "remove http-response wait-for-body"},
			{caddy, "in reverse_proxy: remove response_buffers; before Caddy 2.6 add flush_interval -1"},
			{cloudflare, "a Configuration Rule for the path: Response Body Buffering None; no Worker that reads the whole body"},
			{alb, "it does not buffer; a Lambda target and API Gateway do, and cannot stream"},
			{apache, "ProxyPass … flushpackets=on"},
		}
	case fixCompression:
		return []Fix{
			{nginx, "in the location: gzip off;  or take text/event-stream out of gzip_types"},
			{haproxy, "take text/event-stream out of compression type"},
			{caddy, "give encode a matcher that leaves the path out, or a match without text/event-stream"},
			{cloudflare, "a Compression Rule for the path: no compression"},
			{cloudfront, "in the behavior of the path: Compress objects automatically: No"},
			{apache, "SetEnv no-gzip 1 for the path"},
		}
	case fixIdle:
		return []Fix{
			{nginx, "in the location: proxy_read_timeout 1h;"},
			{haproxy, "timeout server 1h, timeout client 1h"},
			{caddy, "in reverse_proxy, transport http: remove read_timeout, or set it above the heartbeat"},
			{alb, "idle_timeout.timeout_seconds above the heartbeat, such as 120"},
			{cloudflare, "its limit of 100 s between bytes is fixed: keep heartbeat below it"},
			{apache, "ProxyTimeout 3600"},
			{evstream, "a heartbeat below the limit, such as: heartbeat 5s"},
		}
	case fixLifetime:
		return []Fix{
			{nginx, "nginx has no limit of the whole answer: look at what stands before it"},
			{haproxy, "it has none but hard-stop-after, once it is reloaded"},
			{caddy, "in the global options of the Caddy in front: remove write from servers { timeouts { … } }"},
			{alb, "it has none; Google's load balancer has: the timeout of the backend service"},
			{evstream, "max_age ends streams on purpose; they say so"},
		}
	case fixLastEventID:
		return []Fix{
			{nginx, "proxy_set_header Last-Event-ID $http_last_event_id;  and no proxy_pass_request_headers off;"},
			{haproxy, "remove http-request del-header Last-Event-ID"},
			{caddy, "remove header_up -Last-Event-ID and request_header -Last-Event-ID"},
			{cloudfront, "an origin request policy that passes it, such as AllViewer"},
			{cloudflare, "remove the Transform Rule that removes it"},
			{apache, "remove RequestHeader unset Last-Event-ID"},
		}
	case fixHTTP10:
		return []Fix{
			{nginx, `proxy_http_version 1.1;  proxy_set_header Connection "";`},
			{apache, "remove SetEnv force-proxy-request-1.0"},
			{caddy, "in reverse_proxy, transport http: versions 1.1 2"},
		}
	case fixHTTP2:
		return []Fix{
			{nginx, "listen 443 ssl;  http2 on;  (before 1.25.1: listen 443 ssl http2;)"},
			{haproxy, "bind :443 ssl crt … alpn h2,http/1.1"},
			{caddy, "serve it over HTTPS, and have h2 in servers { protocols … }"},
			{cloudflare, "turn HTTP/2 on (Speed, Protocol Optimization)"},
			{alb, "an HTTPS listener, with routing.http2.enabled"},
			{apache, "Protocols h2 http/1.1"},
		}
	case fixCORS:
		return []Fix{
			{evstream, "in the handler: cors <origin>"},
			{nginx, "remove proxy_hide_header Access-Control-Allow-Origin;"},
			{haproxy, "remove http-response del-header Access-Control-Allow-Origin"},
			{caddy, "remove header_down -Access-Control-Allow-Origin"},
		}
	case fixCORSTwice:
		return []Fix{
			{nginx, "remove add_header Access-Control-…, or add proxy_hide_header Access-Control-Allow-Origin;"},
			{haproxy, "remove http-response add-header Access-Control-…"},
			{caddy, "remove header +Access-Control-… for the path"},
			{evstream, "or remove cors, where the proxy is to decide"},
		}
	case fixPreflight:
		return []Fix{
			{evstream, "behind forward_auth or basic_auth: leave OPTIONS out of what they guard"},
			{nginx, "let OPTIONS pass auth_request and limit_except, and answer it nowhere with return"},
			{haproxy, "leave METH_OPTIONS out of http-request auth and deny"},
			{caddy, "leave OPTIONS out of forward_auth: not method OPTIONS"},
		}
	case fixRequest:
		return []Fix{
			{nginx, "in the location: proxy_request_buffering off;  proxy_http_version 1.1;"},
			{haproxy, "remove option http-buffer-request and http-request wait-for-body"},
			{caddy, "in reverse_proxy: remove request_buffers"},
			{cloudflare, "a Configuration Rule for the path: Request Body Buffering None"},
			{apache, "SetEnv proxy-sendchunked 1"},
		}
	case fixCache:
		return []Fix{
			{nginx, "in the location: proxy_cache off;"},
			{cloudflare, "a Cache Rule for the path: bypass cache"},
			{cloudfront, "the cache policy CachingDisabled for the path"},
			{caddy, "leave the path out of cache"},
		}
	case fixNodes:
		return []Fix{{evstream, "give all nodes one log: adapter redis …; or send all requests to one node"}}
	case fixClock:
		return []Fix{{"the server", "set its clock by NTP: timedatectl set-ntp true, or chrony; let no proxy set Date"}}
	case fixCertificate:
		return []Fix{
			{caddy, "it renews by itself: see its log for the name, and open ports 80 and 443"},
			{nginx, "renew it (certbot renew), then nginx -s reload"},
			{haproxy, "renew it, put it into the file of crt, and reload"},
		}
	case fixChain:
		return []Fix{
			{nginx, "ssl_certificate must name the file with the intermediates (fullchain.pem)"},
			{haproxy, "the file of crt must have the intermediates after the certificate"},
			{apache, "SSLCertificateFile must name the file with the intermediates"},
		}
	}
	return nil
}

// fixes are the remedies for what stands before the hub: those of the proxies that
// are known to, and the hub's own; all of them if none is known.
func fixes(kind string, through []string) []Fix {
	all := remedies(kind)
	var chosen []Fix
	known := false
	for _, f := range all {
		if slices.Contains(through, f.In) {
			known = true
			chosen = append(chosen, f)
		} else if f.In == evstream || f.In == "the server" {
			chosen = append(chosen, f)
		}
	}
	if !known {
		return all
	}
	return chosen
}
