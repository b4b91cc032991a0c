package ice

import (
	"encoding/hex"
	"strings"
	"testing"
	"time"

	"github.com/peerservers/peerserver/protocol"
	"github.com/pion/stun/v4"
	"github.com/pion/turn/v5"
)

func TestCredentials(t *testing.T) {
	sc := serve(t, nil)
	mine, other, third := protocol.NodeID{1}, protocol.NodeID{2}, protocol.NodeID{3}
	now := time.Now()
	sign := func(expiry time.Time, issuer protocol.NodeID) (user, password string) {
		user, at := userOf(issuer, []byte("alice"), expiry.Add(-protocol.ICETTL))
		return user, passwordOf(turnKey(sc.cfg.Secret, issuer, dayOf(at)), user)
	}
	good, goodPassword := sc.Credentials([]byte("alice"))
	issued, issuedPassword, ok := Issue(sc.Keys(other), other, []byte("alice"), now)
	if !ok {
		t.Fatal("nothing is issued with today's and tomorrow's keys")
	}
	// A node that has keys cannot speak for another one.
	stolen, stolenPassword, _ := Issue(sc.Keys(other), third, []byte("alice"), now)
	own, ownPassword, _ := Issue(sc.Keys(other), mine, []byte("alice"), now)
	past, pastPassword := sign(now.Add(-time.Minute), mine)
	soon, soonPassword := sign(now.Add(protocol.ICETTL+protocol.ICEAhead-time.Minute), other)
	far, farPassword := sign(now.Add(protocol.ICETTL+protocol.ICEAhead+time.Minute), other)
	eternal, eternalPassword := sign(time.Unix(1<<40, 0), other)
	for _, c := range []struct {
		name, user, password string
		code                 int
		why                  reason
	}{
		{"a peer of this node", good, goodPassword, 0, fine},
		{"a peer of another node", issued, issuedPassword, 0, fine},
		{"a node whose clock is ahead", soon, soonPassword, 0, fine},
		{"another node's key in a third's name", stolen, stolenPassword, 401, badCredentials},
		{"another node's key in this node's name", own, ownPassword, 401, badCredentials},
		{"a wrong password", good, goodPassword + "x", 401, badCredentials},
		{"no password", good, "", 401, badCredentials},
		{"another peer's password", strings.Replace(good, good[len(good)-4:], "0000", 1), goodPassword, 401, badCredentials},
		{"expired", past, pastPassword, 401, expired},
		{"too far ahead", far, farPassword, 401, ahead},
		{"for ever", eternal, eternalPassword, 401, ahead},
		{"no user name of ours", "alice", goodPassword, 401, badCredentials},
		{"an expiry in another spelling", "0" + good, goodPassword, 401, badCredentials},
		{"upper case", strings.ToUpper(good), goodPassword, 401, badCredentials},
		{"the longest name", strings.Repeat("a", 500), goodPassword, 401, badCredentials},
	} {
		t.Run(c.name, func(t *testing.T) {
			before := sc.count.refused[c.why].Load()
			r := sc.raw("udp", "")
			r.t, r.user, r.password = t, c.user, c.password
			if _, code := r.allocate(); code != c.code {
				t.Errorf("answered by %d, want %d", code, c.code)
			}
			if c.why != fine && sc.count.refused[c.why].Load() == before {
				t.Errorf("not counted as %v: %v", c.why, sc.Stats().Refused)
			}
		})
	}
	for _, way := range []string{"udp", "tcp", "tls"} {
		if _, err := sc.allocate(way, good, "wrong"); err == nil || !strings.Contains(err.Error(), "401") {
			t.Errorf("a real client with a wrong password over %s: %v", way, err)
		}
	}
}

// The key of a user name is that of the day in which it expires, wherever the
// two nodes' days turn.
func TestCredentialsAtMidnight(t *testing.T) {
	s, err := New(Config{Secret: make([]byte, 32), Node: protocol.NodeID{1}})
	must(t, err)
	other := protocol.NodeID{2}
	midnight := time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC)
	day := dayOf(midnight)
	key := func(day uint32) Key { return Key{day, turnKey(s.cfg.Secret, other, day)} }
	for _, c := range []struct {
		name string
		at   time.Duration // from midnight
		keys []Key
		ok   bool
	}{
		{"two hours before", -2 * time.Hour, []Key{key(day - 1), key(day)}, true},
		{"half an hour before", -30 * time.Minute, []Key{key(day - 1), key(day)}, true},
		{"half an hour before, without tomorrow's", -30 * time.Minute, []Key{key(day - 1)}, false},
		{"to the second", -time.Hour, []Key{key(day)}, true},
		{"a second before that", -time.Hour - time.Second, []Key{key(day)}, false},
		{"after, with the keys of before", time.Minute, []Key{key(day - 1), key(day)}, true},
		{"a day later, with the keys of before", 24 * time.Hour, []Key{key(day - 1), key(day)}, false},
		{"no keys", 0, nil, false},
	} {
		now := midnight.Add(c.at)
		user, password, ok := Issue(c.keys, other, []byte("alice"), now)
		if ok != c.ok {
			t.Errorf("%s: %v, want %v", c.name, ok, c.ok)
		}
		if !ok {
			continue
		}
		f := newFront(s, nil, true)
		f.request.at = now
		_, got, ok := f.auth(&turn.RequestAttributes{Username: user, Realm: Realm})
		if want := turn.GenerateAuthKey(user, Realm, password); !ok || string(got) != string(want) {
			t.Errorf("%s: the server has another password", c.name)
		}
	}
	if keys := s.Keys(other); len(keys) != 2 || keys[1].Day != keys[0].Day+1 || keys[0].Day != dayOf(time.Now()) {
		t.Errorf("keys: %v", keys)
	}
}

// The vector was made by another program, from what peerserver.proto says.
func TestCredentialVector(t *testing.T) {
	node := protocol.NodeID{7}
	key := turnKey([]byte("0123456789abcdef0123456789abcdef"), node, 20_000)
	if got := hex.EncodeToString(key); got != "8d9c90d9d169d571f42b1ab81f4da8283442b21443889e8e61ab5dea3dacaabc" {
		t.Errorf("key %s", got)
	}
	user, password, ok := Issue([]Key{{20_000, key}}, node, []byte("alice"), time.Unix(20_000*86_400, 0))
	if !ok || user != "1728003600:yhyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyy:c10006ca37f619f0de54c5b9d93c4abb" ||
		password != "6c8xxMTrlNeZ3z0evpJRI+ZpXShZ57Osy6eLRf4PuUc=" {
		t.Errorf("%s %s", user, password)
	}
	if u, ok := parseUser(user); !ok || u.expiry != 1_728_003_600 || u.peer.issuer != node {
		t.Errorf("%+v", u)
	}
}

// An allocation goes on when the credentials it was made with have expired, and
// no other is made with them.
func TestExpiryLeavesAllocationsAlone(t *testing.T) {
	sc := serve(t, nil)
	r := sc.raw("udp", "alice")
	var at time.Time
	for lead := 2 * time.Second; ; lead *= 2 { // a busy machine takes longer
		at = time.Now().Add(lead)
		r.user, _ = userOf(sc.cfg.Node, []byte("alice"), at.Add(-protocol.ICETTL))
		r.password = passwordOf(turnKey(sc.cfg.Secret, sc.cfg.Node, dayOf(at)), r.user)
		_, code := r.allocate()
		if code == 0 {
			break
		}
		if lead > time.Minute {
			t.Fatalf("allocate: %d", code)
		}
	}
	eventually(t, "the credentials expire", func() bool { return time.Now().After(at.Add(time.Second)) })
	r.wants(0, stun.MethodCreatePermission, "127.0.0.1", 40_000)
	if _, code := r.request(stun.MethodRefresh, attr{stun.AttrLifetime, []byte{0, 0, 2, 0}}); code != 0 {
		t.Errorf("refresh: %d", code)
	}
	next := sc.raw("udp", "")
	next.user, next.password = r.user, r.password
	if _, code := next.allocate(); code != 401 {
		t.Errorf("a new allocation with expired credentials: %d", code)
	}
	other := sc.raw("udp", "")
	other.conn, other.user, other.password = r.conn, strings.Replace(r.user, r.user[len(r.user)-4:], "0000", 1), ""
	other.password = passwordOf(turnKey(sc.cfg.Secret, sc.cfg.Node, dayOf(at)), other.user)
	other.nonce = r.nonce
	if _, code := other.request(stun.MethodRefresh); code != 401 {
		t.Errorf("another peer's expired credentials, from the same port: %d", code)
	}
}
