// Package browser has the hub's client for pages: evstream.js. docs/browser.md is its
// manual, and evstream.d.ts has its types. The hub serves both, the script as
// evstream.min.js: "make client" makes that when the script has changed.
package browser

import _ "embed"

//go:embed evstream.min.js
var client string

//go:embed evstream.d.ts
var types string

// Client returns the script, an ES module.
func Client() string { return client }

// Types returns the script's types, for TypeScript.
func Types() string { return types }
