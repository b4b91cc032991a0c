// Package browser holds the SDK for browsers as nodes serve it: dist/sdk.js, a
// module that needs no other, and dist/sdk-plain.js, which it loads on pages
// without WebCrypto. Both are built from src by `npm run build`.
package browser

import _ "embed"

// SDK is an ES module.
//
//go:embed dist/sdk.js
var SDK []byte

// SDKPlain is an ES module that SDK imports as ./sdk-plain.js.
//
//go:embed dist/sdk-plain.js
var SDKPlain []byte
