// The chat as a Durable Object. The output gate delays a response until the writes are on disk. The
// state is read once in the object's lifetime, as Cloudflare's guide recommends: an object in
// memory answers without reading.
import { DurableObject } from "cloudflare:workers";

const KEPT = 20;

export class Chat extends DurableObject {
  async say(text) {
    this.state ??= (await this.ctx.storage.get("state")) ?? { turn: 0, messages: [] };
    const state = this.state;
    state.turn += 1;
    state.messages.push(text);
    if (state.messages.length > KEPT) state.messages.shift();
    this.ctx.storage.put("state", state);
    return { turn: state.turn, kept: state.messages.length };
  }
}

// POST /chat/{session} {"text": ...} -> {"turn": ..., "kept": ...}
export default {
  async fetch(request, env) {
    const session = new URL(request.url).pathname.slice("/chat/".length);
    const { text } = await request.json();
    const chat = env.CHAT.get(env.CHAT.idFromName(session));
    return Response.json(await chat.say(text));
  },
};
