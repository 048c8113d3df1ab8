// The chat as a Durable Object. Its output gate holds an answer back until what was put is on the
// disk. The state is read once per life of the object, as Cloudflare's guide has it: an object in
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
