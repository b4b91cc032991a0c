package door

import "net/url"

// Voucher is a Door that knows its clients again when their pages ask for
// something besides: for TURN, which is for clients alone.
type Voucher interface {
	Door
	// Vouch is the client, by any name that tells it from the door's others, that
	// has the id that a request's query names and proves to be it with a token; ""
	// if there is none. What id and token are is the door's to say: something
	// that those who are not in the app do not know.
	Vouch(query url.Values) (client string)
}
