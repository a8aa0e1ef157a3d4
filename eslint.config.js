import js from '@eslint/js';
import globals from 'globals';

export default [
  js.configs.recommended,
  { files: ['assets/**/*.js'], languageOptions: { globals: globals.browser } },
  { files: ['tests/assets/**/*.js'], languageOptions: { globals: globals.node } },
  { rules: { eqeqeq: 'error', 'no-implicit-globals': 'error', 'no-var': 'error', 'prefer-const': 'error' } },
];
