package node_test

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/gorilla/websocket"

	"github.com/peerservers/peerserver/node"
	"github.com/peerservers/peerserver/protocol"
)

func TestTwoClientsOfOneNode(t *testing.T) {
	n := startNode(t, node.Config{})
	meet(t, n, n)
}

func TestTwoClientsOfTwoNodes(t *testing.T) {
	nodes := startNodes(t, 2)
	meet(t, nodes[0], nodes[1])
}

// meet lets a client come to a first node and one to a second, and an offer
// and its answer pass between them.
func meet(t *testing.T, first, second *node.Node) {
	alice, bob := dial(t, first, "/"), dial(t, second, "/announce")
	h := hash("meet")
	alice.send(announce(h, peer("alice"), `"left":0`, offers(offer("a1", "sdp of alice"))))
	alice.wants(reply(h, 40, 1, 0))
	bob.send(announce(h, peer("bob")))
	bob.next() // the counts depend on whether the nodes have met
	bob.wants(offered(h, peer("alice"), "a1", `{"type":"offer","sdp":"sdp of alice"}`))
	bob.send(answer(h, peer("bob"), peer("alice"), "a1", `{"type":"answer","sdp":"x"}`))
	alice.wants(answered(h, peer("bob"), "a1", `{"type":"answer","sdp":"x"}`))
}

// Each is sent on a socket of its own and gets one message back.
func TestMessagesAndTheirReplies(t *testing.T) {
	n := startNode(t, node.Config{})
	h, p := hash("h"), peer("p")
	const byes = `,"info_hash":""}`
	failed := func(reason string) string {
		return `{"action":"announce","failure reason":` + quote(reason) + `,"info_hash":` + quote(h) + `}`
	}
	counted := func(complete, incomplete int) string { return reply(h, 40, complete, incomplete) }
	offers := func(list string) string { return announce(h, p, `"offers":`+list) }
	long := strings.Repeat("x", protocol.MaxPayload-1)
	for _, m := range []struct{ name, in, out string }{
		{"announce", announce(h, p), counted(0, 1)},
		{"numwant", announce(h, p, `"numwant":50`), counted(0, 1)},
		{"numwant is no number", announce(h, p, `"numwant":"many"`), counted(0, 1)},
		{"all fields", announce(h, p, `"numwant":5`, `"uploaded":1`, `"downloaded":2`, `"left":3`, `"event":"started"`, `"offers":[]`, `"trackerid":"x"`), counted(0, 1)},
		{"spaces", "\n{ \"action\" : \"announce\" ,\t\"info_hash\" : " + quote(h) + " , \"peer_id\":" + quote(p) + " }\r\n", counted(0, 1)},
		{"escaped", `{"\u0061ction":"\u0061nnounce","info_hash":` + escape(h) + `,"peer_id":` + escape(p) + `}`, counted(0, 1)},
		{"the last of two keys counts", announce("not this one        ", p, `"info_hash":`+quote(h)), counted(0, 1)},
		{"keys are exact", announce(h, p, `"Left":0`), counted(0, 1)},

		{"left 0", announce(h, p, `"left":0`), counted(1, 0)},
		{"left 0.0", announce(h, p, `"left":-0.0e1`), counted(1, 0)},
		{"left null", announce(h, p, `"left":null`), counted(0, 1)},
		{"left 1", announce(h, p, `"left":1`), counted(0, 1)},
		{"left 0.1", announce(h, p, `"left":0.1`), counted(0, 1)},
		{"left is no number", announce(h, p, `"left":[]`), counted(0, 1)},

		{"event null", announce(h, p, `"event":null`), counted(0, 1)},
		{"event empty string", announce(h, p, `"event":""`), counted(0, 1)},
		{"event empty", announce(h, p, `"event":"empty"`), counted(0, 1)},
		{"event started", announce(h, p, `"event":"started"`), counted(0, 1)},
		{"event update", announce(h, p, `"event":"update"`), counted(0, 1)},
		{"event paused", announce(h, p, `"event":"paused"`), counted(0, 1)},
		{"event completed", announce(h, p, `"event":"completed"`), counted(1, 0)},
		{"event completed, escaped", announce(h, p, `"event":"\u0063ompleted"`), counted(1, 0)},
		{"event stopped", announce(h, p, `"event":"stopped"`), reply(h, 120, 0, 0)},
		{"event weird", announce(h, p, `"event":"weird"`), failed("invalid event")},
		{"event Started", announce(h, p, `"event":"Started"`), failed("invalid event")},
		{"event 1", announce(h, p, `"event":1`), failed("invalid event")},
		{"event list", announce(h, p, `"event":[]`), failed("invalid event")},

		{"answer false", announce(h, p, `"answer":false`), counted(0, 1)},
		{"answer null", announce(h, p, `"answer":null`), counted(0, 1)},
		{"answer 0", announce(h, p, `"answer":0`), counted(0, 1)},
		{"answer empty", announce(h, p, `"answer":""`), counted(0, 1)},
		{"answer to nobody", announce(h, p, `"answer":{}`), failed("invalid `to_peer_id` (required with `answer`)")},
		{"answer to a short id", announce(h, p, `"answer":{}`, `"to_peer_id":"x"`), failed("invalid `to_peer_id` (required with `answer`)")},
		{"answer to no offer", announce(h, p, `"answer":{}`, `"to_peer_id":`+quote(p)), failed("invalid offer_id")},

		{"offers null", offers("null"), counted(0, 1)},
		{"offers are no list", offers(`{"length":5}`), counted(0, 1)},
		{"offers of null", offers("[null]"), failed("invalid offers")},
		{"offers of lists", offers("[[]]"), failed("invalid offers")},
		{"offer without anything", offers("[{}]"), failed("invalid offer_id")},
		{"offer without id", offers(`[{"offer":{}}]`), failed("invalid offer_id")},
		{"offer with an empty id", offers(`[{"offer":{},"offer_id":""}]`), failed("invalid offer_id")},
		{"offer with a number for id", offers(`[{"offer":{},"offer_id":5}]`), failed("invalid offer_id")},
		{"offer with a character above U+00FF in its id", offers(`[{"offer":{},"offer_id":"Ā"}]`), failed("invalid offer_id")},
		{"offer with a long id", offers(`[{"offer":{},"offer_id":"` + strings.Repeat("x", protocol.MaxRef+1) + `"}]`), failed("invalid offer_id")},
		{"offer without offer", offers(`[{"offer_id":"x"}]`), failed("invalid offers")},
		{"offer that just fits", offers(`[{"offer":"` + long[1:] + `","offer_id":"x"}]`), counted(0, 1)},
		{"offer too large", offers(`[{"offer":"` + long + `","offer_id":"x"}]`), failed("offer or answer too large")},
		{"answer too large", answer(h, p, p, "x", `"`+long+`"`), failed("offer or answer too large")},
		{"message too large", announce(h, p, `"x":"`+long+long+`"`), `{"action":"announce","failure reason":"message too large"` + byes},

		{"no info_hash", `{"action":"announce","peer_id":` + quote(p) + `}`, `{"action":"announce","failure reason":"invalid info_hash"` + byes},
		{"info_hash null", `{"action":"announce","info_hash":null}`, `{"action":"announce","failure reason":"invalid info_hash"` + byes},
		{"info_hash too short", announce(h[1:], p), `{"action":"announce","failure reason":"invalid info_hash","info_hash":` + quote(h[1:]) + `}`},
		{"info_hash too long", announce(h+"x", p), `{"action":"announce","failure reason":"invalid info_hash","info_hash":` + quote(h+"x") + `}`},
		{"info_hash of 20 bytes but 10 characters", announce("éééééééééé", p), `{"action":"announce","failure reason":"invalid info_hash","info_hash":"éééééééééé"}`},
		{"info_hash with a character above U+00FF", announce(h[1:]+"Ā", p), `{"action":"announce","failure reason":"invalid info_hash","info_hash":` + quote(h[1:]+"Ā") + `}`},
		{"info_hash very long", announce(strings.Repeat("x", 1000), p), `{"action":"announce","failure reason":"invalid info_hash"` + byes},
		{"no peer_id", `{"action":"announce","info_hash":` + quote(h) + `}`, failed("invalid peer_id")},
		{"peer_id too short", announce(h, p[1:]), failed("invalid peer_id")},

		{"no action", `{}`, `{"action":"announce","failure reason":"invalid action in WS request: undefined"` + byes},
		{"action null", `{"action":null}`, `{"action":"announce","failure reason":"invalid action in WS request: null"` + byes},
		{"action 5", `{"action":5}`, `{"action":"announce","failure reason":"invalid action in WS request: 5"` + byes},
		{"action Announce", `{"action":"Announce","info_hash":` + quote(h) + `}`, failed("invalid action in WS request: Announce")},
		{"action with quotes", `{"action":"\"\n"}`, `{"action":"announce","failure reason":"invalid action in WS request: \"\n"` + byes},
		{"action very long", `{"action":"` + strings.Repeat("é", 5000) + `"}`, `{"action":"announce","failure reason":"invalid action in WS request: ` + strings.Repeat("é", 32) + `"` + byes},

		{"nothing", ``, `{"action":"announce","failure reason":"invalid JSON"` + byes},
		{"no JSON", `hello`, `{"action":"announce","failure reason":"invalid JSON"` + byes},
		{"half of it", announce(h, p)[:50], `{"action":"announce","failure reason":"invalid JSON"` + byes},
		{"twice", announce(h, p) + announce(h, p), `{"action":"announce","failure reason":"invalid JSON"` + byes},
		{"JSON null", `null`, `{"action":"announce","failure reason":"invalid JSON"` + byes},
		{"JSON list", `[` + announce(h, p) + `]`, `{"action":"announce","failure reason":"invalid JSON"` + byes},
		{"JSON string", `"announce"`, `{"action":"announce","failure reason":"invalid JSON"` + byes},
		{"an offer that is no JSON", offers(`[{"offer":{"sdp":},"offer_id":"x"}]`), `{"action":"announce","failure reason":"invalid JSON"` + byes},
		{"not UTF-8", offers("[{\"offer\":\"\xff\",\"offer_id\":\"x\"}]"), `{"action":"announce","failure reason":"invalid JSON"` + byes},
		{"a raw control character", offers("[{\"offer\":\"\x00\",\"offer_id\":\"x\"}]"), `{"action":"announce","failure reason":"invalid JSON"` + byes},
		{"very deep", offers(strings.Repeat("[", 30_000)), `{"action":"announce","failure reason":"invalid JSON"` + byes},

		{"scrape one", `{"action":"scrape","info_hash":` + quote(h) + `}`, `{"action":"scrape","files":{` + quote(h) + `:{"complete":0,"incomplete":0,"downloaded":0}},"flags":{"min_request_interval":40}}`},
		{"scrape a list", `{"action":"scrape","info_hash":[` + quote(h) + `,` + escape(hash("i")) + `]}`, `{"action":"scrape","files":{` + quote(h) + `:{"complete":0,"incomplete":0,"downloaded":0},` + quote(hash("i")) + `:{"complete":0,"incomplete":0,"downloaded":0}},"flags":{"min_request_interval":40}}`},
		{"scrape nothing", `{"action":"scrape"}`, `{"action":"scrape","files":{},"flags":{"min_request_interval":120}}`},
		{"scrape null", `{"action":"scrape","info_hash":null}`, `{"action":"scrape","files":{},"flags":{"min_request_interval":120}}`},
		{"scrape an empty list", `{"action":"scrape","info_hash":[]}`, `{"action":"scrape","files":{},"flags":{"min_request_interval":120}}`},
		{"scrape a short one", `{"action":"scrape","info_hash":"x"}`, `{"action":"scrape","failure reason":"invalid info_hash","info_hash":"x"}`},
		{"scrape a number", `{"action":"scrape","info_hash":5}`, `{"action":"scrape","failure reason":"invalid info_hash"}`},
		{"scrape a list with a bad one", `{"action":"scrape","info_hash":[` + quote(h) + `,null]}`, `{"action":"scrape","failure reason":"invalid info_hash"}`},
		{"scrape too many", `{"action":"scrape","info_hash":[` + strings.Repeat(quote(h)+",", protocol.MaxTempApps) + quote(h) + `]}`, `{"action":"scrape","failure reason":"too many info_hash in one scrape"}`},
	} {
		t.Run(m.name, func(t *testing.T) {
			c := dial(t, n, "/")
			c.send(m.in)
			c.wants(m.out)
			c.none()
			c.leave(n)
		})
	}
}

func TestBinaryFramesAreHeardToo(t *testing.T) {
	c := dial(t, startNode(t, node.Config{}), "/?x=y")
	if err := c.ws.WriteMessage(websocket.BinaryMessage, []byte(announce(hash("h"), peer("p")))); err != nil {
		t.Fatal(err)
	}
	c.wants(reply(hash("h"), 40, 0, 1))
}

// Ids may have any byte, raw or escaped, and come back as the same string.
func TestAllBytesInIDs(t *testing.T) {
	n := startNode(t, node.Config{})
	for start := 0; start < 256; start += 20 {
		var id []rune
		for i := range 20 {
			id = append(id, rune((start+i)%256))
		}
		s := string(id)
		alice, bob := dial(t, n, "/"), dial(t, n, "/")
		alice.send(`{"action":"announce","info_hash":` + quote(s) + `,"peer_id":` + escape(s) + `}`)
		alice.next()
		bob.send(`{"action":"announce","info_hash":` + escape(s) + `,"peer_id":` + quote(peer("bob")) + `,"offers":[{"offer":1,"offer_id":` + quote(s) + `}]}`)
		var got struct {
			InfoHash string `json:"info_hash"`
			PeerID   string `json:"peer_id"`
			OfferID  string `json:"offer_id"`
			Answer   int
		}
		read := func(c *client) {
			if err := json.Unmarshal([]byte(c.next()), &got); err != nil {
				t.Fatal(err)
			}
		}
		if read(bob); got.InfoHash != s {
			t.Errorf("info_hash %q came back as %q", s, got.InfoHash)
		}
		if read(alice); got.InfoHash != s || got.OfferID != s || got.PeerID != peer("bob") {
			t.Errorf("of %q came %+v", s, got)
		}
		alice.send(`{"action":"announce","info_hash":` + quote(s) + `,"peer_id":` + quote(s) + `,"to_peer_id":` + escape(peer("bob")) + `,"offer_id":` + escape(s) + `,"answer":5}`)
		if read(bob); got.PeerID != s || got.OfferID != s || got.Answer != 5 {
			t.Errorf("of %q came back %+v", s, got)
		}
		alice.leave(n)
		bob.leave(n)
	}
}

// Whatever an offer or answer is, it arrives byte by byte.
func TestPayloadsAreVerbatim(t *testing.T) {
	nodes := startNodes(t, 2)
	for where, far := range map[string]*node.Node{"one node": nodes[0], "two nodes": nodes[1]} {
		t.Run(where, func(t *testing.T) {
			alice, bob := dial(t, nodes[0], "/"), dial(t, far, "/")
			for i, payload := range []string{
				`{"type":"offer","sdp":"v=0\r\no=- 1 2 IN IP4 127.0.0.1\r\n"}`,
				`"ciphertext \u00e9\/\ud83d\ude00 é😀 \ud800"`,
				`{ "sdp" : "x" ,"sdp":"twice", "type":"offer" }`,
				`1e400`, `-0.1`, `true`, `[]`, `[ [ ] , { } ]`, `""`,
				strings.Repeat("[", 200) + strings.Repeat("]", 200),
				`"` + strings.Repeat("x", protocol.MaxPayload-2) + `"`,
			} {
				id := fmt.Sprint(where, i)
				h := hash(id)
				alice.send(announce(h, peer("alice"), `"offers":[{"offer":`+payload+`,"offer_id":`+quote(pad(id, '_'))+`}]`))
				alice.next()
				bob.send(announce(h, peer("bob")))
				bob.next()
				bob.wants(offered(h, peer("alice"), id, payload))
				if payload == `""` {
					continue // as an answer it would be none
				}
				bob.send(answer(h, peer("bob"), peer("alice"), id, payload))
				alice.wants(answered(h, peer("bob"), id, payload))
			}
		})
	}
}

// Offers go to distinct others, as many as there are of both, after the reply.
func TestOffersGoToDistinctOthers(t *testing.T) {
	n := startNode(t, node.Config{})
	h := hash("h")
	var others []*client
	for i := range 3 {
		c := dial(t, n, "/")
		c.send(announce(h, peer(fmt.Sprint("other", i))))
		c.wants(reply(h, 40, 0, i+1))
		others = append(others, c)
	}
	alice := dial(t, n, "/")
	for round := range 20 {
		var list []string
		for i := range round % 6 {
			list = append(list, offer(fmt.Sprint(round, ".", i), "x"))
		}
		alice.send(announce(h, peer("alice"), offers(list...)))
		alice.wants(reply(h, 40, 0, 4))
		alice.none() // its offers go out after the reply
		var got []string
		for _, c := range others {
			got = append(got, c.pending()...)
		}
		slices.Sort(got)
		if want := min(len(list), 3); len(got) != want || len(slices.Compact(got)) != want {
			t.Fatalf("of %d offers to 3 others %d arrived, want %d", len(list), len(got), want)
		}
	}
	alice.none()
}

// Ten thousand offers in one announce: those above the limit are ignored, and
// in a message above the limit of messages all are, but nothing ends.
func TestTenThousandOffers(t *testing.T) {
	n := startNode(t, node.Config{})
	h := hash("h")
	alice, bob := dial(t, n, "/"), dial(t, n, "/")
	bob.send(announce(h, peer("bob")))
	bob.next()
	alice.send(announce(h, peer("alice"), `"offers":[`+offer("1", "x")+strings.Repeat(`,{"offer":1,"offer_id":"y"}`, protocol.MaxOffers)+strings.Repeat(",{}", 10_000)+`]`))
	alice.wants(reply(h, 40, 0, 2))
	if got := bob.next(); !strings.Contains(got, `"offer"`) {
		t.Fatal(got)
	}
	bob.none()
	var list []string
	for i := range 10_000 {
		list = append(list, offer(fmt.Sprint(i), "x"))
	}
	alice.send(announce(h, peer("alice"), offers(list...)))
	if got := alice.next(); !strings.Contains(got, "message too large") {
		t.Fatal(got)
	}
	alice.none()
	bob.none()
}

// One socket carries many swarms and several ids; all leave when it closes.
func TestManySwarmsOnOneSocket(t *testing.T) {
	nodes := startNodes(t, 2)
	n := nodes[0]
	alice, bob := dial(t, n, "/"), dial(t, nodes[1], "/")
	const swarms = 40
	name := func(i int) string { return hash(fmt.Sprint("swarm ", i)) }
	for i := range swarms {
		for _, id := range []string{"one", "two"} {
			alice.send(announce(name(i), peer(id), `"left":0`))
			alice.next()
		}
	}
	if got := n.Stats(); got.Torrents != swarms || got.PeersSeeder != 2*swarms {
		t.Errorf("%d swarms and %d seeders, want %d and %d", got.Torrents, got.PeersSeeder, swarms, 2*swarms)
	}
	for i := range swarms {
		bob.send(announce(name(i), peer("bob")))
		bob.next()
	}
	scrape := `{"action":"scrape","info_hash":` + quote(name(7)) + `}`
	files := func(complete int) string {
		return `{"action":"scrape","files":{` + quote(name(7)) + fmt.Sprintf(`:{"complete":%d,"incomplete":1,"downloaded":%d}},"flags":{"min_request_interval":40}}`, complete, complete)
	}
	bob.until(scrape, files(2))
	// One of the ids leaves one of the swarms.
	alice.send(announce(name(7), peer("one"), `"event":"stopped"`))
	alice.next()
	bob.until(scrape, files(1))
	alice.ws.Close()
	for i := range swarms {
		bob.until(announce(name(i), peer("bob")), reply(name(i), 40, 0, 1))
	}
	if got := n.Stats(); got.Torrents != 0 || got.PeersAll != 0 {
		t.Errorf("%d swarms and %d peers are left", got.Torrents, got.PeersAll)
	}
}

// A seeder stays one.
func TestSeederStaysOne(t *testing.T) {
	c := dial(t, startNode(t, node.Config{}), "/")
	h := hash("h")
	for _, step := range []struct {
		more     string
		complete int
	}{
		{`"left":5`, 0},
		{`"left":0`, 1},
		{`"event":"update"`, 1},
		{`"left":null`, 1},
		{`"left":7`, 1},
	} {
		c.send(announce(h, peer("p"), step.more))
		c.wants(reply(h, 40, step.complete, 1-step.complete))
	}
	c.send(announce(h, peer("p"), `"event":"stopped"`))
	c.wants(reply(h, 40, 0, 0))
	c.send(announce(h, peer("p")))
	c.wants(reply(h, 40, 0, 1))
}

// The same peer_id on a second socket moves there; what the first does then
// changes nothing, until it announces again.
func TestSamePeerOnASecondSocketMoves(t *testing.T) {
	n := startNode(t, node.Config{})
	h := hash("h")
	first, second, bob := dial(t, n, "/"), dial(t, n, "/"), dial(t, n, "/")
	first.send(announce(h, peer("alice"), `"left":0`))
	first.wants(reply(h, 40, 1, 0))
	second.send(announce(h, peer("alice")))
	second.wants(reply(h, 40, 1, 0)) // it is still the seeder
	bob.send(announce(h, peer("bob"), offers(offer("b1", "x"), offer("b2", "x"))))
	bob.wants(reply(h, 40, 1, 1))
	if got := second.next(); !strings.Contains(got, `"offer"`) {
		t.Fatal(got)
	}
	first.none()

	// It answers on the socket that it came back on, although the other one has
	// announced since.
	third := dial(t, n, "/")
	third.send(announce(h, peer("alice")))
	third.wants(reply(h, 40, 1, 1))
	third.pending()
	second.send(answer(h, peer("alice"), peer("bob"), "b1", `"yes"`))
	second.send(answer(h, peer("alice"), peer("bob"), "b2", `"yes"`))
	if got := bob.next(); !strings.Contains(got, `"yes"`) {
		t.Fatal(got)
	}
	first.ws.Close()
	third.ws.Close()
	bob.until(announce(h, peer("bob")), reply(h, 40, 1, 1))
	second.ws.Close()
	bob.until(announce(h, peer("bob")), reply(h, 40, 0, 1))
}

// A peer that seeds and makes no offers, as Trystero's passive ones, is given
// those of others and its answers arrive.
func TestPassivePeer(t *testing.T) {
	n := startNode(t, node.Config{})
	h := hash("h")
	passive, active := dial(t, n, "/"), dial(t, n, "/")
	passive.send(announce(h, peer("passive"), `"left":0`, `"offers":[]`))
	passive.wants(reply(h, 40, 1, 0))
	active.send(announce(h, peer("active"), offers(offer("o", "x"))))
	active.wants(reply(h, 40, 1, 1))
	passive.wants(offered(h, peer("active"), "o", `{"type":"offer","sdp":"x"}`))
	passive.send(answer(h, peer("passive"), peer("active"), "o", `{}`))
	active.wants(answered(h, peer("passive"), "o", `{}`))
	// Once only, and only what was offered.
	passive.send(answer(h, peer("passive"), peer("active"), "o", `{}`))
	passive.send(answer(h, peer("passive"), peer("nobody"), "o", `{}`))
	passive.none()
	active.none()
}

// An answer from one that never announced is dropped without a reply.
func TestAnswerFromAStranger(t *testing.T) {
	n := startNode(t, node.Config{})
	h := hash("h")
	alice, stranger := dial(t, n, "/"), dial(t, n, "/")
	alice.send(announce(h, peer("alice"), offers(offer("o", "x"))))
	alice.next()
	stranger.send(answer(h, peer("stranger"), peer("alice"), "o", `{}`))
	stranger.none()
	alice.none()
	alice.send(announce(h, peer("alice")))
	alice.wants(reply(h, 40, 0, 1))
}

// In a swarm of fifty the interval is the longer one.
func TestIntervalGrowsWithTheSwarm(t *testing.T) {
	c := dial(t, startNode(t, node.Config{}), "/")
	h := hash("h")
	for i := range 55 {
		c.send(announce(h, peer(fmt.Sprint(i))))
		interval := 40
		if i+1 >= protocol.SmallSwarm {
			interval = 120
		}
		c.wants(reply(h, interval, 0, i+1))
	}
}
