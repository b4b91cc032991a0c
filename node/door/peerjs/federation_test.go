package peerjs_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/gorilla/websocket"

	"github.com/peerservers/peerserver/node/door/peerjs"
	"github.com/peerservers/peerserver/protocol"
	"github.com/peerservers/peerserver/testnet"
)

const idTaken = `{"type":"ID-TAKEN","payload":{"msg":"ID is taken"}}`

func message(kind, dst, payload string) string {
	return fmt.Sprintf(`{"type":%q,"payload":%s,"dst":%q}`, kind, payload, dst)
}

func relayed(kind, src, dst, payload string) string {
	return fmt.Sprintf(`{"type":%q,"src":%q,"dst":%q,"payload":%s}`, kind, src, dst, payload)
}

func expired(src, dst string) string {
	return fmt.Sprintf(`{"type":"EXPIRE","src":%q,"dst":%q}`, src, dst)
}

// calls has one client send an offer, and the other an answer.
func (c *client) calls(id string, other *client, otherID string) {
	c.t.Helper()
	c.send(message("OFFER", otherID, `{"sdp":1}`))
	other.wants(relayed("OFFER", id, otherID, `{"sdp":1}`))
	other.send(message("ANSWER", id, `{"sdp":2}`))
	c.wants(relayed("ANSWER", otherID, id, `{"sdp":2}`))
}

func TestTwoNodes(t *testing.T) {
	_, at := pair(t, peerjs.Config{})
	for i := range 2 {
		alice, bob := fmt.Sprint("alice", i), fmt.Sprint("bob", i)
		a := at[i].enters(t, alice)
		b := at[1-i].enters(t, bob)
		a.calls(alice, b, bob)
		b.calls(bob, a, alice)
	}
}

// Without federation ids are not unique, and nobody is found: the other tests
// do not pass by themselves.
func TestIslands(t *testing.T) {
	t.Parallel()
	n := testnet.StartWith(t, testnet.Options{Nodes: 2, Islands: true})
	at := []*place{open(t, n, 0, peerjs.Config{}), open(t, n, 1, peerjs.Config{})}
	a, b := at[0].enters(t, "alice"), at[1].enters(t, "alice")
	bob := at[1].enters(t, "bob")
	a.send(message("OFFER", "bob", "1"))
	a.wants(expired("bob", "alice"))
	bob.silent("bob")
	b.silent("alice")
}

// Of two clients that ask for one id at the same time one gets it, and the
// other is told so and never had it.
func TestTwoClaimsAtOnce(t *testing.T) {
	n, at := pair(t, peerjs.Config{})
	n.Delay(0, 1, 3*time.Millisecond)
	won := [2]int{}
	for round := range 40 {
		id := fmt.Sprint("id", round)
		var both [2]*client
		began := time.Now()
		for k := range both {
			i := (k + round) % 2
			both[i] = at[i].connect(t, query("chess", id, fmt.Sprint("token ", i)))
			both[i].name = fmt.Sprint("client ", i, " of round ", round)
			if round%4 < 2 {
				time.Sleep(time.Duration(round) * 200 * time.Microsecond)
			}
		}
		winner, loser := 0, 1
		select {
		case err := <-both[0].end:
			both[0].end <- err
			winner, loser = 1, 0
		case err := <-both[1].end:
			both[1].end <- err
		case <-time.After(patience):
			t.Fatalf("round %d: both have the id", round)
		}
		won[winner]++
		both[winner].wants(opened)
		both[winner].silent(id)
		got := both[loser].next()
		if took := time.Since(began); got == opened && took > protocol.ClaimWait/2 {
			got = both[loser].next() // the machine stood still: a claim does not wait longer for an answer
		}
		if got != idTaken {
			t.Fatalf("round %d: the other client got %s", round, got)
		}
		if code := both[loser].closed(); code != websocket.CloseNoStatusReceived {
			t.Errorf("closed with %d", code)
		}
		both[winner].leaves()
	}
	if won[0] == 0 || won[1] == 0 {
		t.Errorf("always the same node wins: %v", won)
	}
}

// Nodes that find each other later settle it by the older claim, and the other
// client is told after OPEN.
func TestClaimsOfNodesThatMeetLater(t *testing.T) {
	n, at := pair(t, peerjs.Config{})
	n.Cut(0, 1)
	eventually(t, func() bool { return n.Relay(0).Stats().Links+n.Relay(1).Stats().Links == 0 }, "the link stays")
	older := at[1].connect(t, query("chess", "alice", "one"))
	older.wants(opened)
	time.Sleep(50 * time.Millisecond) // older by more than ages are rounded to
	younger := at[0].connect(t, query("chess", "alice", "two"))
	younger.wants(opened)
	n.Heal(0, 1)
	younger.wants(idTaken)
	younger.closed()
	older.silent("alice")
	at[0].enters(t, "bob").calls("bob", older, "alice")
}

// Who has the token takes the id over, on another node too, and the end of the
// old socket ends nothing.
func TestTakeover(t *testing.T) {
	_, at := pair(t, peerjs.Config{})
	bob := at[1].enters(t, "bob")
	old := at[0].enters(t, "alice")
	bob.calls("bob", old, "alice")
	for round, i := range []int{1, 1, 0, 1} {
		c := at[i].enters(t, "alice")
		c.name = fmt.Sprint("alice ", round)
		if code := old.closed(); code != websocket.CloseNormalClosure {
			t.Errorf("the old socket was closed with %d", code)
		}
		old.ws.Close()
		c.calls("alice", bob, "bob")
		bob.calls("bob", c, "alice")
		old = c
	}
	thief := at[0].connect(t, query("chess", "alice", "another token"))
	thief.wants(idTaken)
	old.silent("alice")
}

func TestIDOfADeadNodeIsFree(t *testing.T) {
	n, at := pair(t, peerjs.Config{})
	bob := at[0].enters(t, "bob")
	bob.calls("bob", at[1].enters(t, "alice"), "alice")
	n.Kill(1)
	var again *client
	eventually(t, func() bool {
		again = at[0].connect(t, query("chess", "alice", "another token"))
		return again.next() == opened
	}, "the id is not free")
	bob.calls("bob", again, "alice")
}

func TestIDIsFreeAtOnceWhenItsClientGoes(t *testing.T) {
	_, at := pair(t, peerjs.Config{})
	for round := range 20 {
		c := at[round%2].connect(t, query("chess", "alice", fmt.Sprint(round)))
		c.wants(opened)
		c.leaves()
		eventually(t, func() bool { return at[round%2].stats().Clients == 0 }, "the client stays")
	}
}

// What is sent to one who is not there yet waits for it on any node, in order,
// and comes after OPEN; if nobody comes, each sender is told once.
func TestMessagesForLateComers(t *testing.T) {
	t.Parallel()
	_, at := pair(t, peerjs.Config{})
	early := []*client{at[0].enters(t, "early0"), at[1].enters(t, "early1")}
	for i := range 10 {
		for k, c := range early {
			c.send(message("CANDIDATE", "late", fmt.Sprint(100*k+i)))
			c.send(message("CANDIDATE", "nobody", fmt.Sprint(i)))
		}
	}
	for _, c := range early {
		c.sync()
	}
	began := time.Now()
	late := at[1].enters(t, "late")
	next := []int{0, 0}
	for range 20 {
		var m struct {
			Src     string
			Payload int
		}
		if err := json.Unmarshal([]byte(late.next()), &m); err != nil {
			t.Fatal(err)
		}
		k := m.Payload / 100
		if m.Src != fmt.Sprint("early", k) || m.Payload%100 != next[k] {
			t.Fatalf("%+v, after %v", m, next)
		}
		next[k]++
	}
	late.silent("late")
	for k, c := range early {
		c.wants(expired("nobody", fmt.Sprint("early", k)))
		c.silent(fmt.Sprint("early", k))
	}
	if took := time.Since(began); took < 4*time.Second {
		t.Errorf("expired after %v", took)
	}
}

// What a client sends before it has OPEN is sent on when it has it.
func TestMessagesBeforeOPEN(t *testing.T) {
	n, at := pair(t, peerjs.Config{})
	bob := at[1].enters(t, "bob")
	n.Delay(0, 1, 50*time.Millisecond)
	alice := at[0].claim(t, "alice")
	for i := range 60 {
		alice.send(message("CANDIDATE", "bob", fmt.Sprint(i)))
	}
	alice.wants(opened)
	for i := range 60 {
		bob.wants(relayed("CANDIDATE", "alice", "bob", fmt.Sprint(i)))
	}
	// There is room for so much. A busy machine may not send it all before OPEN.
	large := `"` + strings.Repeat("x", 50_000) + `"`
	for try := 1; ; try++ {
		id, most, came := fmt.Sprint("slow", try), protocol.WaitingBytes/len(large), 0
		slow := at[0].claim(t, id)
		for range 10 {
			slow.send(message("CANDIDATE", "bob", large))
		}
		slow.send(message("CANDIDATE", "bob", `"small"`))
		first := slow.next()
		for got := bob.next(); got != relayed("CANDIDATE", id, "bob", `"small"`); got = bob.next() {
			if came++; got != relayed("CANDIDATE", id, "bob", large) {
				t.Fatalf("after %d: %.100s", came, got)
			}
		}
		if first == expired("bob", id) && came <= most {
			slow.wants(opened)
			break
		}
		if try == 20 {
			t.Fatalf("%d of 50 kB came, there is room for %d; the first answer is %s", came, most, first)
		}
	}
	// A claim that fails takes them with it.
	thief := at[0].connect(t, query("chess", "bob", "x"))
	thief.send(message("OFFER", "bob", `"from a thief"`))
	thief.wants(idTaken)
	thief.closed()
	bob.silent("bob")
}

// An id that a node has made up says where its client is, on the node's own
// door: others find it, though none was told.
func TestIssuedIDs(t *testing.T) {
	n, at := pair(t, peerjs.Config{})
	_, _, id := at[0].get(t, "/peerjs-server/chess/id", "")
	if tag := n.Relay(0).ID().Tag().String(); !strings.HasPrefix(id, tag+"-") {
		t.Fatalf("%q is not of %s", id, tag)
	}
	a := at[0].enters(t, id)
	b := at[1].enters(t, "bob")
	b.calls("bob", a, id)
	a.calls(id, b, "bob")
	// It may go elsewhere with its token, and stays its client's.
	c := at[1].enters(t, id)
	a.closed()
	b.calls("bob", c, id)
	thief := at[0].connect(t, query("chess", id, "x"))
	if got := thief.next(); got == opened {
		thief.wants(idTaken)
	} else if got != idTaken {
		t.Fatal(got)
	}
	b.calls("bob", c, id)
}

// An app is a key: ids of another are other ids.
func TestKeys(t *testing.T) {
	_, at := pair(t, peerjs.Config{})
	a := at[0].enters(t, "alice")
	b := dial(t, "ws://"+at[1].addr+"/peerjs-server/peerjs?"+query("go", "alice", "x"))
	b.wants(opened)
	c := at[1].connect(t, query("go", "bob", "x"))
	c.wants(opened)
	c.calls("bob", b, "alice")
	a.silent("alice")
}

func TestListOfAllNodes(t *testing.T) {
	t.Parallel()
	n := testnet.Start(t, 3)
	lists := peerjs.Config{Discovery: []string{"chess"}}
	at := []*place{open(t, n, 0, lists), open(t, n, 1, lists), open(t, n, 2, peerjs.Config{})}
	list := func(p *place, key string) string {
		status, _, body := p.get(t, "/peerjs-server/"+key+"/peers", "")
		return fmt.Sprint(status, " ", body)
	}
	at[1].enters(t, "carol")
	bob := at[1].enters(t, "bob")
	if got := list(at[0], "chess"); got != `200 ["bob","carol"]` {
		t.Errorf("who came before: %s", got)
	}
	at[0].enters(t, "alice")
	at[2].enters(t, "private")
	for _, p := range at[:2] {
		eventually(t, func() bool { return list(p, "chess") == `200 ["alice","bob","carol"]` }, "the list is %s", list(p, "chess"))
		if got := list(p, "go"); got != "401 Unauthorized" {
			t.Errorf("of another key: %s", got)
		}
	}
	if got := list(at[2], "chess"); got != "401 Unauthorized" {
		t.Errorf("where it is off: %s", got)
	}
	bob.leaves()
	eventually(t, func() bool { return list(at[0], "chess") == `200 ["alice","carol"]` }, "bob has left")
	n.Kill(1)
	eventually(t, func() bool { return list(at[0], "chess") == `200 ["alice"]` }, "a dead node's are listed")
}
