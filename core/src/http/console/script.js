"use strict";
const MAX_ROWS = 500, MAX_CHARS = 16e6, PING_EVERY = 10000, FRAME_LIMIT = 512;
const CLOSE = {
	1001: "the gateway is draining", 1006: "the connection was lost",
	1009: "a message was too large", 1012: "the gateway is restarting",
	4001: "no valid token in time, or the token expired", 4003: "forbidden", 4008: "slow consumer, this browser read too slowly",
	4009: "error budget spent, too many invalid messages", 4029: "too many connections",
};
const TOKEN_HELP = "Create one with: roomcast token --user me --role admin";

const clock = () => performance.now();
const all = (selector) => document.querySelectorAll(selector);
// Elements by id, in camel case: ui.countEvents is #count-events.
const ui = {};
for (const node of all("[id]")) ui[node.id.replace(/-(.)/g, (_, c) => c.toUpperCase())] = node;
// What comes from outside reaches the page as text nodes, never as markup.
function el(tag, className, ...children) {
	const node = document.createElement(tag);
	if (className) node.className = className;
	node.append(...children);
	return node;
}
function button(className, text, act) {
	const node = el("button", className, text);
	node.type = "button"; node.onclick = () => act(node);
	return node;
}
// Setting the same text again would make a screen reader repeat it.
function put(node, text) { if (node.textContent !== String(text)) node.textContent = text; }
const on = (node, type, act) => node.addEventListener(type, act);
const compact = new Intl.NumberFormat("en", { notation: "compact", maximumFractionDigits: 1 });
const short = (n) => (n < 100000 ? n.toLocaleString("en") : compact.format(n));
const isObject = (v) => v !== null && typeof v === "object" && !Array.isArray(v);
const plain = (v) => { const s = typeof v === "string" ? v : JSON.stringify(v) ?? ""; return s.length > 200 ? s.slice(0, 200) + "…" : s; };
const bytes = (s) => new TextEncoder().encode(s).length;
// crypto.randomUUID is missing on plain http, which is common in private networks.
const uuid = () => "xxxxxxxx-xxxx-4xxx-8xxx-xxxxxxxxxxxx".replace(/x/g, () => (crypto.getRandomValues(new Uint8Array(1))[0] % 16).toString(16));
// Storage can be switched off by the user; the console then only forgets more.
const store = {
	get(key) { try { return sessionStorage.getItem("roomcast." + key) ?? ""; } catch { return ""; } },
	set(key, value) { try { sessionStorage.setItem("roomcast." + key, value); } catch { /* As above. */ } },
};
/* JSON as text, because JSON.stringify would change numbers, escapes and spacing. The text was parsed before, so it is valid. */
const skipBlank = (s, i) => { while (" \n\r\t".includes(s[i] ?? "x")) i++; return i; };
function valueEnd(s, i) {
	let depth = 0;
	do {
		if (s[i] === '"') { for (i++; i < s.length && s[i] !== '"'; i++) if (s[i] === "\\") i++; i++; }
		else if (s[i] === "{" || s[i] === "[") { depth++; i++; }
		else if (s[i] === "}" || s[i] === "]") { depth--; i++; }
		else if (depth) i++;
		else while (i < s.length && !" \n\r\t,:]}".includes(s[i])) i++;
	} while (depth && i < s.length);
	return i;
}
// Returns the text of a top-level member. The last of two equal keys wins, as in JSON.parse.
function memberText(s, name) {
	let found = "";
	for (let i = skipBlank(s, s.indexOf("{") + 1); s[i] === '"';) {
		const keyEnd = valueEnd(s, i), start = skipBlank(s, skipBlank(s, keyEnd) + 1), end = valueEnd(s, start);
		if (JSON.parse(s.slice(i, keyEnd)) === name) found = s.slice(start, end);
		i = skipBlank(s, skipBlank(s, end) + 1);
	}
	return found;
}
// Changes only the white space between tokens. It stops growing at 40 levels, or deep nesting would cost the square of its size.
function indent(s) {
	const out = [];
	let depth = 0;
	const line = () => out.push("\n" + "  ".repeat(Math.min(depth, 40)));
	for (let i = skipBlank(s, 0), end; i < s.length; i = skipBlank(s, end)) {
		const c = s[i];
		end = i + 1;
		if (c === "{" || c === "[") {
			const next = skipBlank(s, end);
			out.push(c);
			if (s[next] === "}" || s[next] === "]") { out.push(s[next]); end = next + 1; } else { depth++; line(); }
		} else if (c === "}" || c === "]") { depth--; line(); out.push(c); }
		else if (c === ",") { out.push(c); line(); }
		else if (c === ":") out.push(": ");
		else { end = valueEnd(s, i); out.push(s.slice(i, end)); }
	}
	return out.join("");
}
/* Messages and copying */
let errors = 0;
function countError() { put(ui.countErrors, short(++errors)); }
function notice(kind, title, text) {
	const key = title + text, same = [...ui.notices.children].find((n) => n.key === key), close = button("bare", "×", () => item.remove());
	const item = el("li", "", el("span", "", el("b", "", title), " ", text), close);
	if (kind === "error") countError();
	// A message that repeats must not push the others out of sight.
	same?.remove();
	item.key = key; item.dataset.kind = kind;
	close.ariaLabel = "Dismiss this message";
	ui.notices.append(item);
	if (ui.notices.children.length > 4) ui.notices.firstChild.remove();
	return item;
}
async function copy(text, from) {
	let done = true;
	try { await navigator.clipboard.writeText(text); } catch {
		// The clipboard interface is missing on plain http, where the old command still works.
		const area = el("textarea"); area.value = text; document.body.append(area); area.select();
		done = document.execCommand("copy"); area.remove(); from.focus();
	}
	from.label ??= from.textContent;
	put(from, done ? "Copied" : "Not copied");
	setTimeout(() => put(from, from.label), 1400);
}
for (const code of all(".cmd code")) code.before(button("slim", "Copy", (b) => copy(code.textContent, b)));
for (const field of all("input, textarea")) { field.spellcheck = false; field.autocomplete = field.autocapitalize = "off"; }
/* Token */
const token = () => ui.token.value.trim();
let expiry = null;
// People paste what start-up printed, a header, or a quoted or wrapped value.
function cleanToken(text) { return (/[#?&]token=([^&#\s]+)/.exec(text)?.[1] ?? text).replace(/^.*Bearer |[\s"']/gi, ""); }
function showClaims() {
	const fact = (name, value) => { const dd = el("dd", "", plain(value)); ui.claims.append(el("dt", "", name), dd); return dd; };
	ui.claims.replaceChildren();
	ui.claims.hidden = !token(); ui.noToken.hidden = !!token(); expiry = null;
	let claims = null;
	try { claims = JSON.parse(new TextDecoder().decode(Uint8Array.from(atob(token().split(".")[1].replace(/-/g, "+").replace(/_/g, "/")), (c) => c.charCodeAt(0)))); } catch { /* Told below. */ }
	if (!isObject(claims)) { fact("Token", "This is not a JWT. An API key can publish, but not connect."); return; }
	fact("User", claims.sub ?? claims.user_id ?? claims.id ?? "none");
	if (claims.role !== undefined) fact("Role", claims.role);
	if (claims.rooms !== undefined) fact("Rooms", [claims.rooms].flat().map(plain).join(", ") || "none");
	const dd = fact("Expires", "never");
	if (typeof claims.exp === "number") { expiry = { at: claims.exp * 1000, dd }; tickExpiry(); }
}
function tickExpiry() {
	if (!expiry) return;
	const s = Math.round((expiry.at - Date.now()) / 1000);
	put(expiry.dd, s <= 0 ? "expired" : "in " + (s >= 86400 ? Math.floor(s / 86400) + " d " : "") + new Date((s % 86400) * 1000).toISOString().slice(11, 19));
	expiry.dd.className = s > 60 ? "" : "bad";
}
// The token is taken out of the address again, so that it stays out of history, bookmarks and screenshots.
function readAddress() {
	const query = new URLSearchParams(location.search), hash = new URLSearchParams(location.hash.slice(1).replace(/\+/g, "%2B"));
	const given = cleanToken(hash.get("token") ?? query.get("token") ?? "");
	if (given) { ui.token.value = given; store.set("token", given); store.set("off", ""); }
	for (const name of (hash.get("rooms") ?? "").split(",")) if (name.trim()) addRoom(name.trim());
	query.delete("token");
	if (location.hash || location.search) history.replaceState(null, "", location.pathname + (query.size ? "?" + query : ""));
	return given;
}
/* Connection */
let socket = null, state = "", usedToken = "", attempts = 0, reconnects = 0, wasLive = false, liveSince = 0;
let timers = {}, retryAt = 0, resumeAt = 0, lastPing = -PING_EVERY, pingSent = 0, lastFrame = 0, pending = new Map(), outbox = [], allowance = 0, refilled = 0;
// Each timer has a name, and setting it again replaces it.
function after(name, ms, act) { clearTimeout(timers[name]); if (act) timers[name] = setTimeout(act, ms); }

function setState(next) {
	const label = next[0].toUpperCase() + next.slice(1);
	state = ui.state.dataset.state = next;
	put(ui.state, label);
	document.title = label + " · Roomcast console";
	if (next !== "live") { put(ui.rtt, ""); pingSent = 0; for (const room of rooms.values()) { room.state = "waiting"; showRoom(room); } }
	showConnection(); showGuide();
}
const freshToken = () => token() && token() !== usedToken;
function showConnection() {
	put(ui.connect, state === "offline" ? "Connect" : freshToken() ? "Use new token" : "Disconnect");
	ui.connect.classList.toggle("primary", state === "offline" || !!freshToken());
	// The countdown is not in the status pill, because a screen reader would announce every second of it.
	const s = Math.ceil((retryAt - Date.now()) / 1000);
	put(ui.retry, state === "reconnecting" && s > 0 ? `next attempt in ${s} s` : "");
}
function connect() {
	release();
	retryAt = resumeAt = 0; usedToken = token(); store.set("off", "");
	if (/[^\w.~+-]/.test(usedToken)) { stop(); notice("error", "This is not a token.", "It contains characters that no token has. " + TOKEN_HELP); return; }
	setState(wasLive || attempts ? "reconnecting" : "connecting");
	let opened = false;
	socket = new WebSocket(location.origin.replace(/^http/, "ws") + "/ws", usedToken ? ["access_token." + usedToken] : []);
	// A gateway that needs no token says nothing at first; one that does asks for it at once.
	socket.onopen = () => { opened = true; if (!usedToken) after("anonymous", 1000, live); };
	socket.onmessage = (e) => { lastFrame = clock(); receive(String(e.data)); };
	socket.onclose = (e) => closed(e.code, e.reason, opened);
	after("watchdog", 15000, () => closed(1006, "no answer within 15 seconds", opened));
}
// Lets go of a socket without waiting for its close event, which can take a minute on a dead network.
function release() {
	for (const name of ["retry", "resume", "watchdog", "anonymous"]) after(name);
	pending.clear(); outbox = [];
	if (socket) { socket.onopen = socket.onmessage = socket.onclose = null; socket.close(); socket = null; }
}
function stop() { release(); wasLive = false; attempts = retryAt = 0; setState("offline"); }
function live() {
	if (state === "live") return;
	after("watchdog");
	if (wasLive) put(ui.countReconnects, ++reconnects);
	wasLive = true; liveSince = clock(); allowance = 15; ui.lastClose.hidden = true;
	setState("live");
	ping();
	for (const room of rooms.values()) join(room);
}
function closed(code, reason, opened) {
	release();
	const why = !opened && code === 1006 ? "no connection: the gateway is not reachable, or it refuses pages from this origin" : CLOSE[code] ?? "unknown reason";
	ui.lastClose.replaceChildren(el("b", "", `Closed with ${code}: `), why + (reason ? ` (${plain(reason)})` : "") + ".");
	ui.lastClose.hidden = false;
	// A new attempt with the same token would only fail again, so these two wait for the user.
	if (code === 4001 || code === 4003) { stop(); notice("error", "Disconnected.", ui.lastClose.textContent + " Paste another token and connect again."); return; }
	if (liveSince && clock() - liveSince > 5000) attempts = 0;
	liveSince = 0;
	// Half of each delay is random, so that many browsers do not come back in the same instant.
	const backoff = Math.min(30000, 500 * 2 ** Math.min(attempts++, 6)) * (0.5 + Math.random() / 2);
	const delay = resumeAt ? Math.max(0, resumeAt - Date.now()) : Math.max(backoff, code === 4029 ? 10000 : 0);
	retryAt = Date.now() + delay;
	after("retry", delay, connect);
	setState("reconnecting");
}
// The gateway allows 10 messages a second and a burst of 20; joining many rooms must stay below that.
function pump() {
	const now = clock();
	allowance = Math.min(15, allowance + (now - refilled) / 150); refilled = now;
	for (; outbox.length && allowance >= 1 && socket?.readyState === 1; allowance--) socket.send(outbox.shift());
	after("pump", 150, outbox.length && pump);
}
// Returns false for a frame so large that the gateway would close the connection.
function request(type, data, context) {
	const id = uuid(), frame = JSON.stringify({ type, data, message_id: id });
	if (bytes(frame) > FRAME_LIMIT) return false;
	pending.set(id, context); outbox.push(frame); pump();
	return true;
}
function ping() {
	const now = clock();
	if (now - lastPing < PING_EVERY || outbox.length) return;
	lastPing = pingSent = now;
	request("ping", undefined, { kind: "ping" });
}
on(ui.connectForm, "submit", (e) => {
	e.preventDefault();
	if (state === "offline" || freshToken()) { stop(); connect(); } else { stop(); store.set("off", "1"); }
});
on(ui.token, "input", () => {
	const clean = cleanToken(ui.token.value);
	if (clean !== ui.token.value) ui.token.value = clean;
	store.set("token", clean); showClaims(); showConnection(); showGuide();
});
on(window, "hashchange", () => { if (readAddress()) { showClaims(); stop(); connect(); } });
/* Frames */
function receive(text) {
	let frame = null;
	try { frame = JSON.parse(text); } catch { /* Told below. */ }
	if (!isObject(frame) || typeof frame.type !== "string") { notice("error", "Unreadable message from the gateway:", text.slice(0, 120)); return; }
	const data = isObject(frame.data) ? frame.data : {}, asked = pending.get(frame.reply_to), inRoom = typeof frame.room === "string";
	pending.delete(frame.reply_to);
	// Any type may be published, even "error". Only an answer to a request, or what names no room, speaks for the gateway.
	if ((asked || !inRoom) && control(frame, data, asked)) return;
	live();
	const name = inRoom ? frame.room : /^user_(joined|left)$/.test(frame.type) ? plain(data.room ?? "") : "", room = rooms.get(name);
	if (room) { room.count++; if (typeof frame.position === "string") room.position = frame.position; }
	addEvent(frame, name, text);
}
// Returns whether the frame was for the console itself, not an event to show.
function control(frame, data, asked) {
	const said = plain(data.message ?? data.code ?? "no details given"), room = asked?.room ?? rooms.get(data.room);
	switch (frame.type) {
		case "auth_success": live(); return true;
		case "auth_failed": stop(); notice("error", `The gateway refused the token (${plain(data.code ?? "")}).`, `${said} ${TOKEN_HELP}`); return true;
		case "auth_required":
			if (data.reason === "token_expiring") notice("warn", "The token is about to expire.", `The gateway closes the connection in ${Math.round((data.expires_in_ms ?? 30000) / 1000)} s. Paste a new token and press “Use new token”.`);
			else { stop(); notice("warn", "This gateway needs a token.", TOKEN_HELP); ui.token.focus(); }
			return true;
		case "pong":
			if (pingSent) put(ui.rtt, Math.max(1, Math.round(clock() - pingSent)) + " ms");
			pingSent = 0; return true;
		case "subscribed":
			if (!rooms.has(room?.name)) return true;
			if (asked?.recover && data.recovered === false) notice("warn", `Room ${room.name}:`, "events were missed while the connection was down: the history no longer reaches that far.");
			// While missed events still arrive, the old position is the one to resume from.
			if (!data.recovered && typeof data.position === "string") room.position = data.position;
			room.state = "joined"; showRoom(room);
			if (ui.publishRoom.value === ui.publishRoom.defaultValue && !rooms.has(ui.publishRoom.value)) { ui.publishRoom.value = room.name; showCommands(); }
			return true;
		case "unsubscribed": if (room) forget(room); return true;
		case "reconnect": {
			const wait = Math.min(300000, Math.max(0, Number(data.after_ms) || 0));
			resumeAt = Date.now() + wait;
			// The gateway normally closes first; if not, the console leaves by itself.
			after("resume", wait, connect);
			notice("info", "The gateway is about to restart.", `Reconnecting in ${(wait / 1000).toFixed(1)} s.`);
			return true;
		}
		case "error":
			if (!asked && typeof data.code !== "string") return false;
			if (asked?.kind === "join") { refused(asked, data, said); return true; }
			if (asked?.kind === "leave") { room.state = "joined"; showRoom(room); }
			if (asked?.kind === "ping") pingSent = 0;
			else notice("error", `Error from the gateway${data.code ? ` (${plain(data.code)})` : ""}:`, said);
			return true;
		default: return !!asked;
	}
}
/* Rooms */
const rooms = new Map();
function addRoom(name) {
	if (rooms.has(name)) { if (state === "live" && rooms.get(name).state === "refused") join(rooms.get(name)); return; }
	const only = "room:" + name, label = button("bare name", name, () => { ui.filter.value = ui.filter.value === only ? "" : only; applyFilter(); });
	const leave = button("bare leave", "×", () => {
		ui.room.focus();
		if (room.state !== "joined" || !request("subscription", { action: "unsubscribe", room: name }, { kind: "leave", room })) forget(room);
	});
	const count = el("span", "small muted"), why = el("p", "small bad");
	const room = { name, state: "waiting", count: 0, countNode: count, why, node: el("li", "", label, count, leave, why) };
	label.title = name + ": show only this room";
	leave.ariaLabel = "Leave room " + name;
	room.node.dataset.room = name;
	rooms.set(name, room); ui.rooms.append(room.node);
	if (state === "live") join(room); else showRoom(room);
}
function join(room) {
	const data = { action: "subscribe", room: room.name };
	room.state = "joining"; put(room.why, "");
	// With the last position, the gateway sends what was missed while the connection was down.
	const sent = (room.position && request("subscription", { ...data, recover: room.position }, { kind: "join", room, recover: true })) || request("subscription", data, { kind: "join", room });
	if (!sent) { room.state = "refused"; put(room.why, `The name is too long for one message (${FRAME_LIMIT} bytes).`); }
	showRoom(room);
}
function refused({ room, recover }, data, said) {
	if (!rooms.has(room.name)) return;
	if (data.code === "rate_limited") { setTimeout(() => { if (room.state === "joining" && rooms.get(room.name) === room) join(room); }, Number(data.retry_after_ms) || 1000); return; }
	// A position that the gateway no longer understands must not keep us out of the room.
	if (recover && data.code !== "forbidden") { room.position = ""; join(room); return; }
	countError();
	room.state = "refused"; put(room.why, `${plain(data.code ?? "error")}: ${said}`); showRoom(room);
}
function forget(room) {
	rooms.delete(room.name); room.node.remove(); showRoom(room);
}
function showRoom(room) {
	room.node.dataset.state = room.node.title = room.state;
	put(room.countNode, short(room.count)); room.why.hidden = room.state !== "refused";
	put(ui.countRooms, [...rooms.values()].filter((r) => r.state === "joined").length);
	store.set("rooms", JSON.stringify([...rooms.keys()]));
	showGuide();
}
on(ui.roomForm, "submit", (e) => {
	e.preventDefault();
	if (ui.room.value.trim()) addRoom(ui.room.value.trim());
	ui.room.value = ""; ui.room.focus();
});
/* Events are collected and drawn in batches, so that a busy room cannot freeze the page. */
const shown = { items: [], chars: 0 }, waiting = { items: [], chars: 0 };
let received = 0, dropped = 0, flushing = false, paused = false, viewMode = "raw", match = () => true;
// Counts by second; those older than the small chart are dropped by tick.
const perSecond = new Map(), second = () => Math.floor(Date.now() / 1000);
function keep(list, record) {
	list.items.push(record); list.chars += record.frame.length;
	while (list.items.length > MAX_ROWS || (list.chars > MAX_CHARS && list.items.length > 1)) {
		const old = list.items.shift();
		list.chars -= old.frame.length; dropped++; old.node?.remove();
	}
}
function addEvent(frame, room, text) {
	received++; perSecond.set(second(), (perSecond.get(second()) ?? 0) + 1);
	const facts = [frame.timestamp && "sent " + plain(frame.timestamp), frame.message_id && "id " + plain(frame.message_id)];
	keep(waiting, { at: new Date(), type: frame.type, room, frame: text, facts });
	if (!flushing) { flushing = true; setTimeout(flush, 50); }
}
function flush() {
	flushing = false;
	put(ui.countEvents, short(received));
	for (const room of rooms.values()) put(room.countNode, short(room.count));
	if (!paused) {
		const batch = document.createDocumentFragment();
		for (const record of waiting.items) { build(record); batch.prepend(record.node); keep(shown, record); }
		waiting.items = []; waiting.chars = 0;
		ui.events.prepend(batch);
	}
	showList();
}
function showList() {
	const total = shown.items.length, visible = shown.items.filter((r) => !r.node.hidden).length;
	const parts = [visible < total && `${visible} of ${total} match the filter`, dropped && `${dropped.toLocaleString("en")} older dropped, the last ${MAX_ROWS} are kept`].filter(Boolean);
	put(ui.listInfo, parts.join(" · ")); ui.listInfo.hidden = !parts.length;
	put(ui.pause, paused ? `Resume (${waiting.items.length} new)` : "Pause");
	showGuide();
}
// The same type has the same colour in every session; 137 degrees keep neighbours apart.
const hue = (text) => ([...text].reduce((h, c) => (h * 31 + c.codePointAt(0)) % 9973, 7) * 137) % 360;
function build(record) {
	const at = record.at, raw = el("pre", "raw", record.raw = memberText(record.frame, "data")), detail = el("div", "detail", raw);
	const time = el("span", "time", at.toTimeString().slice(0, 8) + "." + String(at.getMilliseconds()).padStart(3, "0")), chip = el("span", "chip", record.type);
	const row = button("row", "", () => { detail.hidden = !detail.hidden; row.ariaExpanded = !detail.hidden; openDetail(record, detail, raw); });
	row.append(time, chip, el("span", "room", record.room || "direct"), el("span", "preview", record.raw.slice(0, 300).replace(/\s+/g, " ") || "no data"));
	chip.style.setProperty("--hue", hue(record.type));
	row.title = record.room ? `${record.type} in ${record.room}` : record.type + ", sent to you or to everybody, not to a room";
	row.tabIndex = -1; row.ariaExpanded = false;
	raw.tabIndex = 0; detail.hidden = true;
	record.node = el("li", "event", row, detail);
	record.node.dataset.type = record.type; record.node.dataset.room = record.room;
	record.node.hidden = !match(record);
}
// The tools of a row are made when it is first opened, because most rows never are.
function openDetail(record, detail, raw) {
	if (!record.show) {
		const pretty = el("pre", "pretty"), modes = ["Raw", "Pretty"].map((text) => button("slim", text, () => record.show(viewMode = text.toLowerCase())));
		record.show = (mode) => {
			modes.forEach((b, i) => b.ariaPressed = (mode === "pretty") === !!i);
			raw.hidden = mode === "pretty"; pretty.hidden = !raw.hidden;
			if (!pretty.hidden) put(pretty, indent(record.raw));
		};
		pretty.tabIndex = 0;
		detail.prepend(el("div", "tools", ...modes, button("slim", "Copy data", (b) => copy(record.raw, b)), button("slim", "Copy frame", (b) => copy(record.frame, b)),
			el("span", "small muted", [bytes(record.raw).toLocaleString("en") + " bytes", ...record.facts].filter(Boolean).join(" · "))));
		detail.append(pretty);
	}
	record.show(viewMode);
}
// The field names are part of the searched text, which is what makes room:x and type:x work.
function applyFilter() {
	const words = ui.filter.value.toLowerCase().split(/\s+/).filter(Boolean);
	match = (r) => {
		const text = `type:${r.type} room:${r.room} ${r.raw}`.toLowerCase();
		return words.every((w) => (w[0] === "-" ? !text.includes(w.slice(1)) : text.includes(w)));
	};
	for (const r of shown.items) r.node.hidden = !match(r);
	showList();
}
on(ui.filter, "input", () => after("filter", 80, applyFilter));
on(ui.pause, "click", () => { paused = !paused; ui.pause.ariaPressed = paused; flush(); });
on(ui.clear, "click", () => {
	for (const list of [shown, waiting]) { list.items = []; list.chars = 0; }
	dropped = 0; ui.events.replaceChildren(); showList();
});
// One tab stop leads into the list and the arrow keys walk it; five hundred tab stops would be a trap.
on(ui.events, "keydown", (e) => {
	const rows = [...ui.events.querySelectorAll(".event:not([hidden]) > .row")], at = rows.indexOf(e.target);
	if (at < 0 && e.target !== ui.events) return;
	const to = { ArrowDown: at + 1, ArrowUp: Math.max(0, at - 1), Home: 0, End: rows.length - 1 }[e.key];
	if (rows[to]) { e.preventDefault(); rows[to].focus(); }
});
on(document, "keydown", (e) => { if (e.key === "/" && !/^(INPUT|TEXTAREA)$/.test(e.target.tagName)) { e.preventDefault(); ui.filter.focus(); } });
/* Getting started */
function showGuide() {
	const joined = [...rooms.values()].some((r) => r.state === "joined");
	ui.guide.hidden = shown.items.length > 0;
	ui.stepConnect.classList.toggle("done", state === "live"); ui.stepRoom.classList.toggle("done", joined); ui.stepPublish.classList.toggle("done", received > 0);
	ui.guideRoom.disabled = joined; ui.guidePublish.disabled = !token();
}
on(ui.guideRoom, "click", () => addRoom("workspace:test-workspace"));
on(ui.guidePublish, "click", () => ui.publishForm.requestSubmit());
/* Publishing */
const now = new Date().toISOString().slice(0, 19) + "Z";
ui.publishData.value = `{
  "event_id": "evt-1",
  "timestamp": "${now}",
  "workspace": {"id": "test-workspace"},
  "file": {
    "path": "src/main.rs",
    "event_type": "modify"
  },
  "change": {"type": "diff"}
}`;
const quote = (s) => (/^[\w.:/@-]+$/.test(s) ? s : "'" + s.replace(/'/g, "'\\''") + "'");
// The data stays text, so that it is sent byte for byte.
function readForm() {
	const form = { room: ui.publishRoom.value.trim(), type: ui.publishType.value.trim(), data: ui.publishData.value.trim(), problem: "" };
	try { JSON.parse(form.data); } catch (e) { form.problem = "Not valid JSON: " + (form.data ? e.message : "there is nothing. null would do."); form.data = "null"; }
	put(ui.dataError, form.problem); ui.publishData.ariaInvalid = !!form.problem;
	form.body = `{"room":${JSON.stringify(form.room)},"type":${JSON.stringify(form.type)},"data":${form.data}}`;
	return form;
}
function showCommands() {
	const { room, type, data, body } = readForm();
	put(ui.cmdCurl, `curl ${quote(location.origin + "/api/publish")} \\\n  -H "Authorization: Bearer $TOKEN" \\\n  -H 'Content-Type: application/json' \\\n  -d ${quote(body)}`);
	put(ui.cmdCli, `roomcast publish --room ${quote(room)} --type ${quote(type)} --data ${quote(data)}`);
	put(ui.cmdRedis, `redis-cli XADD stream:file-events '*' compressed false \\\n  batch_id batch-1 batch_count 1 data ${quote(`{"batch_id":"batch-1","timestamp":"${now}","batch_count":1,"events":[${data}]}`)}`);
}
function result(ok, ...content) {
	ui.publishResult.dataset.ok = ok; ui.publishResult.className = ok ? "small good" : "small bad";
	ui.publishResult.replaceChildren(...content);
}
on(ui.publishForm, "submit", async (e) => {
	e.preventDefault();
	const form = readForm(), missing = form.problem ? ui.publishData : token() ? null : ui.token;
	if (missing) { result(false, form.problem ? "Nothing was sent." : "Publishing needs a token. " + TOKEN_HELP); missing.focus(); return; }
	ui.publish.disabled = true;
	try {
		const answer = await fetch("/api/publish", { method: "POST", headers: { Authorization: "Bearer " + token(), "Content-Type": "application/json" }, body: form.body, signal: AbortSignal.timeout(10000) });
		const text = await answer.text();
		let body = null;
		try { body = JSON.parse(text); } catch { /* Shown as it is. */ }
		if (answer.ok) result(true, "Published, message_id ", el("code", "", plain(body?.message_id ?? "not given")));
		else { countError(); result(false, el("b", "", `${answer.status} ${plain(body?.error?.code ?? "")} `), plain(body?.error?.message ?? text)); }
	} catch (problem) { countError(); result(false, problem.name === "TimeoutError" ? "No answer within 10 seconds; the event may or may not be published." : "The gateway could not be reached."); }
	ui.publish.disabled = false;
});
on(ui.publishForm, "input", showCommands);
on(ui.publishForm, "keydown", (e) => { if (e.key === "Enter" && (e.ctrlKey || e.metaKey)) { e.preventDefault(); ui.publishForm.requestSubmit(); } });
/* Gateway health and counters */
const METRICS = Object.entries({ Connections: "connections", Deliveries: "deliveries_total", Published: "published_total", "Source entries": "source_entries_total" }).map(([label, name]) => {
	const cell = el("dd"), tile = el("div", "gateway", el("dt", "", label), cell);
	tile.hidden = true; tile.title = "Of the whole gateway: roomcast_" + name; ui.stats.append(tile);
	return { name: "roomcast_" + name, cell };
});
let healthNotice = null, metricsRest = 0;
const get = (path, headers = {}) => fetch(path, { headers, cache: "no-store", signal: AbortSignal.timeout(4500) });
function health(kind, text, detail) {
	if (ui.health.detail === text + detail) return;
	ui.health.detail = text + detail; ui.health.dataset.health = kind; put(ui.health, text);
	healthNotice?.remove();
	if (detail) healthNotice = notice("warn", text + ".", detail);
}
async function checkHealth() {
	try {
		const answer = await get("/readyz");
		if (answer.ok) { health("ok", "Gateway ready", ""); return; }
		const reasons = (await answer.json().catch(() => null))?.reasons;
		health("bad", "Gateway not ready", Array.isArray(reasons) ? reasons.map(plain).join("; ") : `It answered ${answer.status}.`);
	} catch { health("bad", "Gateway unreachable", "GET /readyz got no answer."); }
}
async function readMetrics() {
	// A gateway may keep its metrics elsewhere; then it is asked only once a minute.
	if (metricsRest-- > 0) return;
	const sums = {};
	try {
		// Where they are protected, the token opens them.
		const answer = await get("/metrics", token() ? { Authorization: "Bearer " + token() } : {}), text = answer.ok ? await answer.text() : "";
		if (!answer.ok) metricsRest = 11;
		for (const [, name, value] of text.matchAll(/^([\w:]+)(?:\{(?:[^"}]|"(?:[^"\\]|\\.)*")*\})?[ \t]+(\S+)/gm)) sums[name] = (sums[name] ?? 0) + Number(value);
	} catch { /* The health pill tells that the gateway is away. */ }
	for (const { name, cell } of METRICS) {
		cell.parentNode.hidden = !Number.isFinite(sums[name]);
		put(cell, short(sums[name] ?? 0));
	}
}
async function poll() {
	if (!document.hidden) await Promise.all([checkHealth(), readMetrics()]);
	setTimeout(poll, 5000);
}
function tick() {
	tickExpiry(); showConnection();
	for (const at of perSecond.keys()) if (at < second() - 60) perSecond.delete(at);
	const points = Array.from({ length: 60 }, (_, i) => perSecond.get(second() - 60 + i) ?? 0), top = Math.max(1, ...points);
	const rate = points.slice(-10).reduce((a, b) => a + b) / 10;
	put(ui.rate, rate < 100 ? rate.toFixed(1) : short(Math.round(rate)));
	ui.spark.firstChild.setAttribute("d", `M-2 28L-2 25L${points.map((n, i) => `${i * 2} ${(25 - (n / top) * 23).toFixed(1)}`).join("L")}L120 25L120 28Z`);
	if (state !== "live") return;
	// A network that died silently produces no close event; a ping that no frame follows is the sign.
	if (pingSent && lastFrame < pingSent && clock() - pingSent > 8000) closed(1006, "no answer to a ping", true);
	else ping();
}

ui.token.value = store.get("token");
try { JSON.parse(store.get("rooms") || "[]").forEach(addRoom); } catch { /* Damaged storage is the same as none. */ }
readAddress(); showClaims(); setState("offline"); showCommands(); tick(); poll();
setInterval(tick, 1000);
// Who opens the address that start-up prints wants to be connected, unless they disconnected before a reload.
if (token() && !store.get("off")) connect();
