package ice

// Stats are counts of the server. Bytes are payload relayed, in from clients
// and out to them.
type Stats struct {
	Allocations int              `json:"allocations"`
	Peers       int              `json:"peers"` // that have an allocation
	Conns       int              `json:"conns"` // over TCP and TLS
	BytesIn     int64            `json:"bytesIn"`
	BytesOut    int64            `json:"bytesOut"`
	BytesToday  int64            `json:"bytesToday"` // both, since midnight UTC
	Bindings    int64            `json:"bindings"`   // answered
	Refused     map[string]int64 `json:"refused"`    // by reason, of a fixed set
}
