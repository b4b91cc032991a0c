// Gives whoever imports webrtc-polyfill our webrtc.mjs; see client.mjs.

export function resolve(specifier, context, next) {
  return specifier === 'webrtc-polyfill' ? next(new URL('webrtc.mjs', import.meta.url).href, context) : next(specifier, context);
}
