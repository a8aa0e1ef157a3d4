// Tokens and probabilities in words.

/** Steps of probability that words are tinted by: the first bound above it, and its name in a legend. */
export const LEVELS = [[0.1, 'under 10 %'], [0.25, '10–25 %'], [0.5, '25–50 %'], [0.8, '50–80 %'], [Infinity, '80 % and more']];
export const levelOf = (p) => LEVELS.findIndex(([bound]) => p < bound);
export const probability = (logProb) => Math.exp(logProb);
export const percent = (p) => (p < 0.005 ? '<1 %' : p > 0.995 && p < 1 ? '>99 %' : `${Math.round(p * 100)} %`);
export const signed = (number) => (number < 0 ? `−${Math.abs(number).toFixed(2)}` : number.toFixed(2));
export const duration = (seconds) => (seconds < 0.1 ? '<0.1 s' : `${seconds.toFixed(1)} s`);
/** A token in words; tokenizers of bytes cut rare characters into pieces that are none by themselves. */
export const readable = (token) => (/^\uFFFD+$/.test(token.trim()) ? 'part of a character' : token.trim() || (token ? 'space' : 'nothing'));
