// Package browser holds the SDK for browsers as nodes serve it: dist/sdk.js, one
// module without imports, built from src by `npm run build`.
package browser

import _ "embed"

// SDK is an ES module.
//
//go:embed dist/sdk.js
var SDK []byte
