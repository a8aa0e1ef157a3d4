// Questions that may get lost on their way to the server: they are asked again, a few times.

const MOST_TRIES = 6;
const NEXT_TRY_MILLISECONDS = 700;

export const pause = (milliseconds) => new Promise((resolve) => { setTimeout(resolve, milliseconds); });

/** What `work` promises. Where that fails, or comes to undefined, it is done again after longer and longer pauses; undefined in the end. */
export async function insist(work) {
  for (let tries = 1; ; tries += 1) {
    const found = await work().catch(() => undefined);
    if (found !== undefined || tries === MOST_TRIES) return found;
    await pause(tries * NEXT_TRY_MILLISECONDS);
  }
}
