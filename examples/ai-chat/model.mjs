// A model that costs nothing: it counts to 500, a word every 20 ms, and says how often it
// was asked and whether somebody hung up. Put a real one in its place.
import {MockLanguageModelV4} from 'ai/test';

const words = Number(process.env.WORDS ?? 500);
const pace = Number(process.env.PACE ?? 20); // ms
const zero = {total: 0, noCache: 0, cacheRead: 0, cacheWrite: 0, text: 0, reasoning: 0};

export const seen = {asked: 0, finished: 0, cut: 0};

export const model = new MockLanguageModelV4({
  modelId: 'counting',
  doStream: async ({abortSignal}) => {
    seen.asked++;
    return {stream: ReadableStream.from(count(abortSignal))};
  },
});

async function* count(abortSignal) {
  let over = false;
  try {
    yield {type: 'stream-start', warnings: []};
    yield {type: 'text-start', id: '1'};
    for (let n = 1; n <= words; n++) {
      await new Promise(go => setTimeout(go, pace));
      abortSignal?.throwIfAborted();
      yield {type: 'text-delta', id: '1', delta: n < words ? `${n} ` : `${n}`};
    }
    yield {type: 'text-end', id: '1'};
    over = true;
    yield {type: 'finish', finishReason: {unified: 'stop', raw: 'stop'}, usage: {inputTokens: zero, outputTokens: zero}};
  } finally {
    seen[over ? 'finished' : 'cut']++;
  }
}
