package evstream

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"testing"

	gojwt "github.com/golang-jwt/jwt/v5"
	"github.com/santhosh-tekuri/jsonschema/v6"

	"github.com/evstream/caddy-evstream/httpapi"
)

// The OpenAPI document and the running hub are held against each other: each request that
// the document has as x-requests is made, and what is sent and answered must be as it
// says; and what the hub says of its methods and parameters must be in the document.

// apiDoc is the document, as far as the test reads it.
type apiDoc struct {
	Servers    []struct{ URL string }
	Paths      map[string]map[string]json.RawMessage
	Components struct {
		Parameters map[string]apiParameter
		Headers    map[string]apiHeader
		Responses  map[string]apiResponse
	}
	schemas *jsonschema.Compiler
}

type apiParameter struct{ Name, In string }

type apiHeader struct{ Required bool }

type apiRef struct {
	Ref string `json:"$ref"`
}

type apiResponse struct {
	apiRef
	Headers map[string]apiRef
	Content map[string]json.RawMessage
}

type apiOperation struct {
	OperationID string
	Parameters  []apiRef
	RequestBody struct{ Content map[string]json.RawMessage }
	Responses   map[string]apiResponse
	Requests    []apiRequest `json:"x-requests"`
}

// apiRequest is one of x-requests.
type apiRequest struct {
	Status        int
	As            string
	Path, Headers map[string]string
	Query         map[string]any // a list is repeated
	Type, Body    string
	Invalid       bool              // its body is not as the document says: that is what is shown
	Schema        string            // of the answer, more exactly
	Answers       map[string]string // header fields
	Keep          string            // for later requests
}

// apiMethods is in the order in which an operation finds what another one has made.
var apiMethods = []string{"post", "put", "patch", "get", "head", "options", "delete"}

// readAPI reads the document from a hub.
func readAPI(t *testing.T, e *testSite) *apiDoc {
	t.Helper()
	resp := ask(t, e, request{"GET", "/live/_openapi.json", nil, ""})
	text := bodyOf(t, resp)
	doc := new(apiDoc)
	if err := json.Unmarshal([]byte(text), doc); err != nil {
		t.Fatal(err)
	}
	if len(doc.Servers) != 1 || doc.Servers[0].URL != "/live" {
		t.Errorf("the servers are %v", doc.Servers)
	}
	whole, err := jsonschema.UnmarshalJSON(strings.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	doc.schemas = jsonschema.NewCompiler()
	if err := doc.schemas.AddResource("http://hub/api", whole); err != nil {
		t.Fatal(err)
	}
	return doc
}

// operation returns an operation, and the keys that lead to it.
func (d *apiDoc) operation(t *testing.T, path, method string) (*apiOperation, []string) {
	t.Helper()
	op := new(apiOperation)
	if err := json.Unmarshal(d.Paths[path][method], op); err != nil {
		t.Fatal(err)
	}
	var shared []apiRef
	if raw := d.Paths[path]["parameters"]; raw != nil {
		if err := json.Unmarshal(raw, &shared); err != nil {
			t.Fatal(err)
		}
	}
	op.Parameters = append(op.Parameters, shared...)
	return op, []string{"paths", path, method}
}

// parameters are those of an operation that lie somewhere: by their names the keys of
// components.parameters.
func (d *apiDoc) parameters(op *apiOperation, in string) map[string]string {
	all := make(map[string]string)
	for _, r := range op.Parameters {
		key := r.Ref[strings.LastIndexByte(r.Ref, '/')+1:]
		if p := d.Components.Parameters[key]; p.In == in {
			all[p.Name] = key
		}
	}
	return all
}

// validate reports whether a value is as the schema that keys lead to.
func (d *apiDoc) validate(t *testing.T, value any, keys ...string) error {
	t.Helper()
	pointer := ""
	for _, key := range keys {
		pointer += "/" + url.PathEscape(strings.NewReplacer("~", "~0", "/", "~1").Replace(key))
	}
	schema, err := d.schemas.Compile("http://hub/api#" + pointer)
	if err != nil {
		t.Fatal(err)
	}
	return schema.Validate(value)
}

// apiCallers are who makes the requests.
type apiCallers struct {
	e    *testSite
	kept map[string]string // what stands for "$name" in them
}

// fill puts in what only a running hub has.
func (c *apiCallers) fill(s string) string {
	for name, value := range c.kept {
		s = strings.ReplaceAll(s, "$"+name, value)
	}
	return s
}

// do makes a request, and returns the answer with its body, if that ends.
func (c *apiCallers) do(t *testing.T, method, path string, q *apiRequest) (*http.Response, []byte) {
	t.Helper()
	base := c.e.url + "/live"
	if q.As == "admin" {
		base = c.e.admin
	}
	for name, value := range q.Path {
		path = strings.ReplaceAll(path, "{"+name+"}", c.fill(value))
	}
	query := make(url.Values)
	for name, value := range q.Query {
		for _, one := range listOf(value) {
			query.Add(name, c.fill(fmt.Sprint(one)))
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	r, err := http.NewRequestWithContext(ctx, strings.ToUpper(method), base+path+"?"+query.Encode(), strings.NewReader(c.fill(q.Body)))
	if err != nil {
		t.Fatal(err)
	}
	if q.Type != "" {
		r.Header.Set("Content-Type", q.Type)
	}
	for name, value := range q.Headers {
		r.Header.Set(name, c.fill(value))
	}
	switch q.As {
	case "backend":
		r.Header.Set("Authorization", "Bearer "+backendSecret)
	case "alice", "bob":
		r.Header.Set("Authorization", "Bearer "+tableToken(t, gojwt.MapClaims{"sub": q.As}))
	}
	if q.Status == http.StatusRequestEntityTooLarge {
		r.Header.Set("Expect", "100-continue") // refused while it is sent, it might be cut off
	}
	resp, err := http.DefaultTransport.RoundTrip(r)
	if err != nil {
		t.Fatalf("%s %s: %v", method, path, err)
	}
	t.Cleanup(func() { cancel(); _ = resp.Body.Close() })
	if strings.HasPrefix(resp.Header.Get("Content-Type"), "text/event-stream") {
		return resp, nil
	}
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp, body
}

func listOf(value any) []any {
	if list, ok := value.([]any); ok {
		return list
	}
	return []any{value}
}

// opened has a caller read channels, and returns the session.
func (c *apiCallers) opened(t *testing.T, as string, query string) string {
	t.Helper()
	values, err := url.ParseQuery(query)
	if err != nil {
		t.Fatal(err)
	}
	q := &apiRequest{As: as, Query: map[string]any{}}
	for name, list := range values {
		q.Query[name] = list[0]
	}
	resp, _ := c.do(t, "get", "/", q)
	begin := make([]byte, 0, 1024)
	for !bytes.Contains(begin, []byte(`"session":"`)) {
		some := make([]byte, 512)
		n, err := resp.Body.Read(some)
		if err != nil {
			t.Fatalf("%v, after %q", err, begin)
		}
		begin = append(begin, some[:n]...)
	}
	return string(regexp.MustCompile(`"session":"([^"]+)"`).FindSubmatch(begin)[1])
}

func TestTheHubIsAsItsOpenAPIDocumentSays(t *testing.T) {
	setTableSecrets(t)
	eachServer(t, func(t *testing.T, on server) {
		e := on.start(t, func(c *siteConfig) {
			c.handler.Bearers = map[string]string{"backend": backendSecret}
			c.handler.JWT = &JWTConfig{Keys: []JWTKey{{Key: tableKey}}}
			c.handler.Tickets = new(TicketsConfig)
			c.handler.Allow = rulesOf("backend all **", "user subscribe,presence chat/*", "anyone subscribe match.*")
			c.broker.Channels = []ChannelConfig{{Pattern: "chat/*", Presence: true}}
			c.admin = true
		})
		doc := readAPI(t, e)
		c := &apiCallers{e: e, kept: map[string]string{
			"largejson": `"` + strings.Repeat("x", 70<<10) + `"`, "large": strings.Repeat("x", 2<<20), "long": strings.Repeat("x", 70<<10),
		}}
		c.kept["session"] = c.opened(t, "alice", "channel=chat/1")
		c.kept["other"] = c.opened(t, "backend", "channel=match.7")
		paths := slices.Sorted(maps.Keys(doc.Paths))
		slices.SortStableFunc(paths, func(a, b string) int { return strings.Count(a, "{") - strings.Count(b, "{") })
		tried := make(map[string]bool)
		for _, path := range paths {
			for _, method := range apiMethods {
				if doc.Paths[path][method] != nil {
					tryOperation(t, doc, c, path, method, tried)
				}
			}
		}
		for key := range doc.Components.Parameters {
			if !tried[key] {
				t.Errorf("no request has the parameter %s", key)
			}
		}
	})
}

// tryOperation makes the requests of one operation.
func tryOperation(t *testing.T, doc *apiDoc, c *apiCallers, path, method string, tried map[string]bool) {
	op, keys := doc.operation(t, path, method)
	seen := map[string]bool{"default": true}
	if op.OperationID == "remove" {
		seen["204"] = true // of a recorded answer: takeover_record_test.go
	}
	for i := range op.Requests {
		q := &op.Requests[i]
		at := fmt.Sprintf("%s, request %d", op.OperationID, i)
		for in, given := range map[string]map[string]any{"query": q.Query, "path": toAny(q.Path), "header": toAny(q.Headers)} {
			known := doc.parameters(op, in)
			for name, value := range given {
				key := known[name]
				if key == "" {
					t.Errorf("%s: %s is no parameter of its %s", at, name, in)
					continue
				}
				tried[key] = true
				if err := doc.validate(t, value, "components", "parameters", key, "schema"); err != nil && q.Status != http.StatusBadRequest {
					t.Errorf("%s: %s is %v: %v", at, name, value, err)
				}
			}
		}
		checkSent(t, doc, op, keys, q, at)
		resp, body := c.do(t, method, path, q)
		if resp.StatusCode != q.Status {
			t.Errorf("%s: it is answered %s, not %d: %s", at, resp.Status, q.Status, body)
			continue
		}
		seen[fmt.Sprint(q.Status)] = true
		checkAnswer(t, doc, op, keys, q, resp, body, method == "head", at)
		switch q.Keep {
		case "etag":
			c.kept["etag"] = resp.Header.Get("ETag")
		case "ticket":
			var ticket struct{ Ticket string }
			if err := json.Unmarshal(body, &ticket); err != nil {
				t.Fatal(err)
			}
			c.kept["ticket"] = ticket.Ticket
		}
	}
	for status := range op.Responses {
		if !seen[status] {
			t.Errorf("%s: no request is answered %s", op.OperationID, status)
		}
	}
}

func toAny(m map[string]string) map[string]any {
	all := make(map[string]any)
	for name, value := range m {
		all[name] = value
	}
	return all
}

// checkSent holds the body of a request against the document.
func checkSent(t *testing.T, doc *apiDoc, op *apiOperation, keys []string, q *apiRequest, at string) {
	t.Helper()
	if q.Type == "" {
		return
	}
	media := q.Type
	if op.RequestBody.Content[media] == nil {
		media = "*/*"
	}
	if op.RequestBody.Content[media] == nil {
		if q.Status != http.StatusUnsupportedMediaType {
			t.Errorf("%s: a body of %s is not in the document", at, q.Type)
		}
		return
	}
	var value any
	if !strings.HasSuffix(media, "json") || json.Unmarshal([]byte(q.Body), &value) != nil {
		return
	}
	if err := doc.validate(t, value, append(keys, "requestBody", "content", media, "schema")...); (err != nil) != q.Invalid && q.Status != http.StatusBadRequest {
		t.Errorf("%s: the body is not as the document says: %v", at, err)
	}
}

// checkAnswer holds an answer against the document.
func checkAnswer(t *testing.T, doc *apiDoc, op *apiOperation, keys []string, q *apiRequest, resp *http.Response, body []byte, head bool, at string) {
	t.Helper()
	said, ok := op.Responses[fmt.Sprint(q.Status)]
	keys = append(slices.Clone(keys), "responses", fmt.Sprint(q.Status))
	if !ok {
		t.Errorf("%s: the answer %d is not in the document", at, q.Status)
		return
	}
	if name, ok := strings.CutPrefix(said.Ref, "#/components/responses/"); ok {
		said, keys = doc.Components.Responses[name], []string{"components", "responses", name}
	}
	for name, r := range said.Headers {
		key := r.Ref[strings.LastIndexByte(r.Ref, '/')+1:]
		value := resp.Header.Get(name)
		if value == "" && doc.Components.Headers[key].Required && (!head || name != "Cache-Control") {
			t.Errorf("%s: the answer has no %s", at, name)
		} else if value != "" {
			if err := doc.validate(t, value, "components", "headers", key, "schema"); err != nil {
				t.Errorf("%s: %s is %q: %v", at, name, value, err)
			}
		}
	}
	for name, value := range q.Answers {
		if got := resp.Header.Get(name); got != value {
			t.Errorf("%s: %s is %q", at, name, got)
		}
	}
	if head {
		return
	}
	media, _, _ := strings.Cut(resp.Header.Get("Content-Type"), ";")
	if len(said.Content) == 0 {
		if len(body) > 0 {
			t.Errorf("%s: the answer has a body, which the document has not: %s", at, body)
		}
		return
	}
	if said.Content[media] == nil {
		t.Errorf("%s: an answer of %q is not in the document", at, media)
		return
	}
	if !strings.HasSuffix(media, "json") {
		return
	}
	value, err := jsonschema.UnmarshalJSON(bytes.NewReader(body))
	if err != nil {
		t.Errorf("%s: %v in %s", at, err, body)
		return
	}
	if err := doc.validate(t, value, append(keys, "content", media, "schema")...); err != nil {
		t.Errorf("%s: the answer %s is not as the document says: %v", at, body, err)
	}
	if q.Schema != "" {
		if err := doc.validate(t, value, "components", "schemas", q.Schema); err != nil {
			t.Errorf("%s: the answer %s is no %s: %v", at, body, q.Schema, err)
		}
	}
}

// What the hub says of itself is in the document: the methods of each resource, and in its
// refusal of an unknown parameter those that it knows.
func TestTheOpenAPIDocumentHasAllThatTheHubKnows(t *testing.T) {
	on := servers[1]
	e := on.start(t, func(c *siteConfig) {
		c.handler.Tickets = new(TicketsConfig)
		c.handler.Allow = rulesOf("anyone all **")
		c.admin = true
	})
	doc := readAPI(t, e)
	c := &apiCallers{e: e}
	documented := make(map[string]bool) // query parameters
	places := map[string]string{"channel": "a", "session": "MZ3HSEYrlgnGQgSZad0U_Q"}
	for path, item := range doc.Paths {
		methods := []string{}
		as := ""
		if path == "/_revocations" {
			as = "admin"
		}
		for _, method := range apiMethods {
			if item[method] == nil {
				continue
			}
			methods = append(methods, strings.ToUpper(method))
			op, _ := doc.operation(t, path, method)
			query := doc.parameters(op, "query")
			for name := range query {
				documented[name] = true
			}
			if method == "options" || len(query) == 0 {
				continue
			}
			q := &apiRequest{As: as, Path: places, Query: map[string]any{"zzz": "1"}}
			if op.OperationID == "read" || op.OperationID == "readMany" || strings.HasPrefix(op.OperationID, "head") {
				q.Query["poll"] = "1"
				q.Headers = map[string]string{"Accept": "application/json"}
			}
			if path != "/" && !strings.HasPrefix(path, "/{channel}") {
				delete(q.Query, "poll")
			}
			resp, body := c.do(t, strings.Replace(method, "head", "get", 1), path, q)
			_, list, ok := strings.Cut(string(body), "the parameters here are ")
			if resp.StatusCode != http.StatusBadRequest || !ok {
				if !strings.Contains(string(body), "has no parameters") {
					t.Errorf("%s %s: an unknown parameter is answered %s: %s", method, path, resp.Status, body)
				}
				continue
			}
			list, _, _ = strings.Cut(list, `"`)
			for name := range strings.SplitSeq(list, ", ") {
				if name == "close" && path == "/{channel}/" {
					continue // the hub says of it that it closes one channel alone
				}
				if query[name] == "" && name != "ticket" {
					t.Errorf("%s %s: the hub knows %s, and the document does not", method, path, name)
				}
			}
		}
		if strings.HasPrefix(path, "/_presence/") {
			continue // its Allow is of both paths
		}
		resp, _ := c.do(t, "options", path, &apiRequest{As: as, Path: places})
		allow := strings.Split(resp.Header.Get("Allow"), ", ")
		slices.Sort(allow)
		slices.Sort(methods)
		if !slices.Equal(allow, methods) {
			t.Errorf("%s: the hub allows %q, and the document has %q", path, allow, methods)
		}
	}
	for _, name := range httpapi.Parameters() {
		if !documented[name] {
			t.Errorf("the hub knows the parameter %s, and the document does not", name)
		}
	}
	resp := ask(t, e, request{"GET", "/live/_none", nil, ""})
	own := regexp.MustCompile(`_[a-z.]+`).FindAllString(strings.SplitAfter(bodyOf(t, resp), "which are ")[1], -1)
	for _, name := range own {
		if !slices.ContainsFunc(slices.Collect(maps.Keys(doc.Paths)), func(path string) bool { return strings.HasPrefix(path, "/"+name) }) {
			t.Errorf("the hub has %s, and the document does not", name)
		}
	}
	if len(own) < 6 {
		t.Errorf("only %q are the hub's own resources", own)
	}
}
