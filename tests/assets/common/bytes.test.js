// Bytes that travel as text.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { bytesOf } from '../../../assets/common/bytes.js';

test('every byte comes back', () => {
  const bytes = Uint8Array.from({ length: 256 }, (_, value) => value);
  assert.deepEqual(bytesOf(Buffer.from(bytes).toString('base64')), bytes);
});
